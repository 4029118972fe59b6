"""What of a report is to be made again."""

from __future__ import annotations

import pytest

from pytest_memtype.dumps.facts import Kind
from pytest_memtype.dumps.read import read
from pytest_memtype.reproduce.setting import settings
from pytest_memtype.reproduce.wanted import wanted

OWN = "Jan  9 11:02:41 alpha kernel: x86/PAT: app:177 freeing invalid memtype [mem 0xfd000000-0xfd000fff]\n"
OTHERS = (
    "x86/PAT: X:9 map pfn RAM range req write-combining for [mem 0x64a2000-0x64a2fff], got write-back",
    "mtrr: no more MTRRs available",
    "pmd_set_huge: Cannot satisfy [mem 0xf8000000-0xf8200000] with a huge-page mapping due to MTRR override.",
    "mtrr: your CPUs had inconsistent variable MTRR settings",
    "CPA: called for zero pte. vaddr = ffff8801 cpa->vaddr = ffff8801",
)


@pytest.mark.parametrize("line", OTHERS)
def test_what_another_machine_says_is_not_wanted(line: str) -> None:
    report = read(f"{OWN}Jan  9 11:03:00 beta kernel: {line}\n")
    assert [each.aside for each in report.complaints] == [False, True]
    what = wanted(report)
    assert [each.kind for each in what.complaints] == [Kind.FREEING_INVALID]
    assert (what.large, what.requests, what.boot, what.unknown) == ((), (), (), ())
    assert next(settings(report, None)).hardware.cpus == 1


@pytest.mark.parametrize("line", OTHERS)
def test_what_one_machine_says_is_wanted_all(line: str) -> None:
    what = wanted(read(f"{OWN}Jan  9 11:03:00 alpha kernel: {line}\n"))
    assert len(what.complaints) + len(what.boot) + len(what.unknown) >= 2


def test_what_another_machines_trace_names_is_no_operation() -> None:
    trace = "".join(
        f"Jan  9 11:03:00 beta kernel: {line}\n"
        for line in (
            "WARNING: CPU: 0 PID: 7 at arch/x86/mm/pat/memtype.c:983 get_pat_info+0xf6/0x110",
            "CPU: 0 PID: 7 Comm: app Not tainted 6.12.0 #1",
            "Call Trace:",
            " copy_page_range+0x10/0x20",
            " dup_mmap+0x10/0x20",
        )
    )
    assert "fork" not in wanted(read(OWN + trace)).verbs
    assert "fork" in wanted(read(OWN + trace.replace("beta", "alpha"))).verbs


def test_what_an_old_kernel_says_of_a_cpu_is_not_tried() -> None:
    report = read("PAT WC disabled due to known CPU erratum.\n")
    assert (wanted(report).complaints, wanted(report).unknown) == ((), report.complaints)
