"""The corpus in corpus/ was printed by real guests: corpus/produce.py says how, and makes it again.

MEMTYPE_UPDATE_REPORTS=1 writes what is found now into the .json files, for a review by hand.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_memtype.console.reports import (
    MOST_LINES,
    MOST_LINES_OF_WORDS,
    ConsoleReport,
    ReportKind,
    find_reports,
)
from pytest_memtype.console.text import sanitize

CORPUS = Path(__file__).parent / "corpus"
REPORTS = sorted((CORPUS / "reports").glob("*.log"))
HEALTHY = sorted((CORPUS / "healthy").glob("*.log"))

TRACE = "CPU: 0 PID: 80 Comm: insmod Not tainted 6.1.0\nCall Trace:\n f+0x1/0x2\n"
LOCKUP = f"watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [insmod:80]\n{TRACE}"
OOPS = f"BUG: kernel NULL pointer dereference, address: 0000000000000000\nOops: 0000 [#1] SMP\n{TRACE}"
WARNING = "WARNING: CPU: 0 PID: 1 at init/main.c:1 start_kernel+0x1/0x2\n"
REGISTERS = "RIP: 0010:f+0x1/0x2\nCR2: 0000000000000000\n"
END = "---[ end trace 0000000000000000 ]---\n"


def name(path: Path) -> str:
    return path.stem


def described(reports: tuple[ConsoleReport, ...]) -> list[dict[str, object]]:
    return [
        {"kind": str(each.kind), "title": each.title, **({"panicked": True} if each.panicked else {})}
        for each in reports
    ]


def expected(log: Path) -> list[dict[str, object]]:
    reports: list[dict[str, object]] = json.loads(log.with_suffix(".json").read_text())
    return reports


def in_order(reports: list[ConsoleReport]) -> list[str]:
    return sorted(report.title for report in reports)


@pytest.mark.parametrize("log", REPORTS, ids=name)
def test_reports(log: Path) -> None:
    found = described(find_reports(sanitize(log.read_bytes())))
    if os.environ.get("MEMTYPE_UPDATE_REPORTS"):
        log.with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n")
    assert found == expected(log)


@pytest.mark.parametrize("log", HEALTHY, ids=name)
def test_healthy_boots_give_nothing(log: Path) -> None:
    assert find_reports(sanitize(log.read_bytes())) == ()


def test_corpus() -> None:
    assert len(REPORTS) >= 40
    assert len({log.stem.partition("-")[0] for log in REPORTS}) >= 4
    assert len(HEALTHY) >= 12
    seen = {each["kind"] for log in REPORTS for each in expected(log)}
    # Debian has no KASAN, and TCG no NMI for the hard lockup detector.
    assert seen == {*ReportKind} - {ReportKind.KASAN, ReportKind.HARD_LOCKUP}


@pytest.mark.parametrize("log", REPORTS, ids=name)
def test_lines_of_a_report(log: Path) -> None:
    text = sanitize(log.read_bytes())
    for report in find_reports(text):
        assert set(report.lines) <= set(text.splitlines())
        assert "provoke: " not in report.lines[0]
        # What a guest prints by itself, a second after its boot.
        assert not re.search(r"tsc: |clocksource", report.lines[-1])


PREFIX = re.compile(r"^(\[ *\d+\.\d{6}\]) ", re.MULTILINE)

VARIANTS: dict[str, Callable[[str], str]] = {
    "caller": lambda text: PREFIX.sub(r"\1[   T80] ", text),
    "level": lambda text: PREFIX.sub(r"<4>\1 ", text),
    "level and caller": lambda text: PREFIX.sub(r"<4>\1[    C0] ", text),
    "only caller": lambda text: PREFIX.sub(r"[   T80] ", text),
    "no time": lambda text: PREFIX.sub("", text),
    "carriage returns": lambda text: text.replace("\n", "\r\n"),
    "user space between lines": lambda text: text.replace("\n", "\nBUG: user space\n---[ end trace ]---\n"),
    "user space before a line": lambda text: PREFIX.sub(r"$ prompt\1 ", text),
    "another CPU between lines": lambda text: PREFIX.sub(
        r"[    0.000000][    C1] some driver: some words\n\1[   T80] ", text
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_else_printk_may_print(variant: str) -> None:
    for log in REPORTS:
        text = VARIANTS[variant](sanitize(log.read_bytes()))
        assert described(find_reports(text)) == expected(log), log.name
    for log in HEALTHY:
        assert find_reports(VARIANTS[variant](sanitize(log.read_bytes()))) == (), log.name


@settings(deadline=None)
@given(st.sampled_from(REPORTS), st.integers(0, 200))
def test_a_console_that_breaks_off(log: Path, line: int) -> None:
    lines = sanitize(log.read_bytes()).splitlines()
    assert len(find_reports(lines[:line])) <= len(expected(log))


@pytest.mark.parametrize(
    "words",
    [
        "WARNING: words",
        "WARNING: CPU: 0 PID: 1 at init/main.c:1 start_kernel+0x1/0x2",
        "BUG: words",
        "BUG: kernel NULL pointer dereference, address: 0000000000000000",
        "kernel BUG at init/main.c:1!",
        "Kernel panic - not syncing: words",
        # kernel/watchdog_perf.c, on every host without performance counters.
        "NMI watchdog: Perf NMI watchdog permanently disabled",
        "RIP: 0010:start_kernel+0x1/0x2",
        "------------[ cut here ]------------",
        f"------------[ cut here ]------------\n{TRACE}",
        TRACE,
        f"WARNING: words\n{TRACE}",
        f"BUG: words\n{TRACE}",
        # arch/x86/kernel/traps.c and mm/oom_kill.c: a process dies, the kernel is well.
        f"traps: sh[80] general protection fault ip:1 sp:2 error:0 in busybox[400000+1000]\n{TRACE}",
        f"sh invoked oom-killer: gfp_mask=0x140cca(GFP_HIGHUSER_MOVABLE|__GFP_COMP), order=0\n{TRACE}",
    ],
)
def test_words_are_no_report(words: str) -> None:
    assert find_reports(words) == ()


# What no guest of the corpus can print. Format strings: mm/kasan/report.c, print_error_description() and
# print_access_info(); kernel/watchdog.c, watchdog_hardlockup_check(), and kernel/watchdog_hld.c of 6.1,
# watchdog_overflow_callback(); kernel/sched/core.c, __might_resched(); arch/x86/mm/extable.c.
RULE = "=" * 66
SYNTHETIC = {
    f"{RULE}\nBUG: KASAN: slab-out-of-bounds in f.isra.0+0xa8/0xbc [m]\n"
    f"Write of size 1 at addr ffff8801f44ec37b by task insmod/80\n\n{TRACE}\n"
    f"Allocated by task 80:\n g+0x1/0x2\n{RULE}\n": (
        ReportKind.KASAN,
        "KASAN: slab-out-of-bounds in f",
    ),
    f"watchdog: CPU1: Watchdog detected hard LOCKUP on cpu 1\n{TRACE}": (
        ReportKind.HARD_LOCKUP,
        "hard lockup in f",
    ),
    f"NMI watchdog: Watchdog detected hard LOCKUP on cpu 0\n{TRACE}": (
        ReportKind.HARD_LOCKUP,
        "hard lockup in f",
    ),
    "BUG: sleeping function called from invalid context at mm/slab.h:1\n"
    f"in_atomic(): 1, irqs_disabled(): 0, non_block: 0, pid: 80, name: insmod\n{TRACE}": (
        ReportKind.ATOMIC_CONTEXT,
        "sleeping function called from invalid context at mm/slab.h:1",
    ),
    f"unchecked MSR access error: RDMSR from 0x277 at rIP: 0xffffffff81000000 (g+0x1/0x2)\n{TRACE}": (
        ReportKind.MSR_ACCESS,
        "unchecked RDMSR from 0x277 in f",
    ),
    f"rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: {{ 0-.... }} 9 jiffies\n{TRACE}": (
        ReportKind.RCU_STALL,
        "RCU stall in f",
    ),
    f"BUG: Bad page map in process sh  pte:80000000fd000227 pmd:02a4067\n{TRACE}": (
        ReportKind.BAD_PAGE,
        "bad page map in process sh",
    ),
}


@pytest.mark.parametrize("text", SYNTHETIC)
def test_reports_that_no_guest_prints(text: str) -> None:
    (report,) = find_reports(f"before\n{text}after\n")
    assert (report.kind, report.title) == SYNTHETIC[text]
    assert report.lines == tuple(text.splitlines())


def test_panic_that_only_carries_out_a_report() -> None:
    console = f"{LOCKUP}Kernel panic - not syncing: softlockup: hung tasks\nwords\n"
    (report,) = find_reports(console)
    assert (report.kind, report.panicked) == (ReportKind.SOFT_LOCKUP, True)
    assert report.lines == tuple(console.splitlines())


def test_what_follows_an_oops_is_not_part_of_it() -> None:
    (report,) = find_reports(f"{OOPS}{END}{REGISTERS}words\n")
    assert report.lines == tuple(f"{OOPS}{END}{REGISTERS}".splitlines())


def test_what_stands_before_a_report_belongs_to_it_alone() -> None:
    warning = f"------------[ cut here ]------------\nwords\n{WARNING}{TRACE}{END}"
    first, second = find_reports(f"{warning}{LOCKUP}")
    assert first.lines == tuple(warning.splitlines())
    assert second.lines == tuple(LOCKUP.splitlines())


@pytest.mark.parametrize("after", [LOCKUP, OOPS, f"Kernel panic - not syncing: RCU Stall\n{TRACE}"])
def test_words_before_a_report_are_none(after: str) -> None:
    words = (
        "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [sh:1]\n"
        if after is OOPS
        else "kernel BUG at a.c:1!\n"
    )
    (report,) = find_reports(f"{words}{after}")
    assert report.lines == tuple(after.splitlines())


def test_a_panic_ends_a_warning() -> None:
    warning, panic = find_reports(f"{WARNING}{TRACE}Kernel panic - not syncing: words\n{TRACE}")
    assert warning.lines == tuple(f"{WARNING}{TRACE}".splitlines())
    assert panic.kind is ReportKind.PANIC


def test_panic_of_its_own() -> None:
    oops, panic = find_reports(f"{OOPS}{END}Kernel panic - not syncing: VFS: no root\n{TRACE}")
    assert (oops.kind, oops.panicked) == (ReportKind.NULL_DEREFERENCE, False)
    assert (panic.kind, panic.panicked) == (ReportKind.PANIC, True)


def test_nothing_ends_a_panic_but_its_last_line_and_the_next_boot() -> None:
    panic = f"Kernel panic - not syncing: words\n{TRACE}{OOPS}words\n"
    end = "---[ end Kernel panic - not syncing: words ]---\n"
    boot = "Linux version 6.1.0\n"
    first, second, third = find_reports(f"{panic}{end}{panic}{boot}{LOCKUP}")
    assert first.lines == tuple(f"{panic}{end}".splitlines())
    assert second.lines == tuple(panic.splitlines())
    assert third.kind is ReportKind.SOFT_LOCKUP


def test_callers_keep_two_cpus_apart() -> None:
    lines = f"WARNING: CPU: 0 PID: 80 at a.c:1 f+0x1/0x2\n{TRACE}{END}".splitlines()
    both = [
        f"[    1.000000][ {caller}] {line}"
        for one, other in zip(lines, (line.replace("f+", "g+") for line in lines), strict=True)
        for caller, line in (("T80", one), ("C1", other))
    ]
    first, second = find_reports(both)
    assert (first.title, second.title) == ("WARNING in f at a.c:1", "WARNING in g at a.c:1")
    assert first.lines == tuple(both[0::2])
    assert second.lines == tuple(both[1::2])


def test_a_report_that_goes_on_is_cut() -> None:
    reports = find_reports(LOCKUP + " f+0x1/0x2\n" * 2 * MOST_LINES)
    assert [len(report.lines) for report in reports] == [MOST_LINES]


def test_first_lines_without_end_are_not_all_open_at_once() -> None:
    """Else each line would be added to a thousand reports, and a megabyte of them would take minutes."""
    lines = ["kernel BUG at a.c:1!", "Call Trace:"] * MOST_LINES
    found = find_reports(lines)
    assert len(found) == MOST_LINES
    assert max(len(report.lines) for report in found) <= 40


def test_a_line_that_is_longer_than_any_of_the_kernels_begins_no_report() -> None:
    assert find_reports(f"Kernel panic - not syncing: {'a' * 1000}\n{TRACE}") != ()
    assert find_reports(f"Kernel panic - not syncing: {'a' * 1_000_000}\n{TRACE}") == ()


def test_a_trace_long_after_words_does_not_make_them_a_report() -> None:
    words = "BUG: kernel NULL pointer dereference, address: 0000000000000000"
    between = ["..."] * (MOST_LINES_OF_WORDS - 2)
    assert len(find_reports([words, *between, *TRACE.splitlines()])) == 1
    assert find_reports([words, *between, "...", *TRACE.splitlines()]) == ()
