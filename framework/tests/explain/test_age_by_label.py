"""The version of a kernel that isn't named, by what stands in front of its messages."""

from __future__ import annotations

import pytest

from pytest_memtype.dumps.read import read
from pytest_memtype.explain.explanation import explain
from pytest_memtype.explain.linux_source import age
from pytest_memtype.spec.linux_versions import Version

LINE = (
    "zcount_ipc:3520 map pfn expected mapping type uncached-minus for [mem 0x28000000-0x28000fff], got "
    "write-back\n"
)


@pytest.mark.parametrize(
    ("front", "since", "before"),
    [
        # 3.5 has the brackets, 4.2 the label (9dac62909451).
        ("[ 1971.854205] ", (3, 5, 0), (4, 2, 0)),
        ("Jan  9 11:02:41 box kernel: ", (3, 5, 0), (4, 2, 0)),
        ("[ 1971.854205] x86/PAT: ", (4, 2, 0), None),
        ("x86/PAT: ", (4, 2, 0), None),
        # Somebody may have taken the label away with the time, or have words of his own in front.
        ("", (3, 5, 0), None),
        ("[ 1971.854205] it says: ", (3, 5, 0), None),
    ],
)
def test_label(front: str, since: Version, before: Version | None) -> None:
    known = age(read(f"{front}{LINE}"))
    assert (known.since, known.before) == (since, before)


def test_no_file_is_named_that_the_kernel_cannot_have() -> None:
    rule = explain(read(f"[ 1971.854205] {LINE}"), []).story.rule
    assert rule.startswith("arch/x86/mm/pat.c, reserve_pfn_range()")


def test_the_function_of_a_bug_tells_its_age() -> None:
    text = "kernel BUG at arch/x86/mm/pat.c:233!\nEIP is at reserve_memtype+0x392/0x3a0\n"
    assert age(read(text)).before == (5, 6, 0)


def test_a_version_in_brackets() -> None:
    """dump_stack_print_info()'s forerunners, until 2.6.29."""
    text = (
        "[    9.000000] kernel BUG at arch/x86/mm/pat.c:233!\n"
        "[    9.000000] Pid: 1627, comm: modprobe Not tainted (2.6.27-rc3-git2 #8)\n"
    )
    kernel = read(text).kernel
    assert kernel is not None
    assert kernel.release == "2.6.27-rc3-git2"


def test_a_pat_that_needs_the_mtrrs() -> None:
    """mtrr_bp_init() of 4.7 to 6.1, and of distributions' 4.4."""
    skipped = "[    0.010543] x86/PAT: MTRRs disabled, skipping PAT initialization too.\n"
    known = age(read(skipped))
    assert (known.since, known.before) == ((4, 4, 0), (6, 2, 0))
    rule = explain(read("[    0.010541] Disabled\n" + skipped), []).story.rule
    assert "mtrr.c" in rule
    assert "i386" not in rule
