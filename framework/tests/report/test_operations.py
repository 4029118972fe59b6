"""Records, told to a person."""

from __future__ import annotations

import errno
from typing import Any

from pytest_memtype.guest.journal import Journal
from pytest_memtype.guest.outcome import KernelAnswer, Outcome, TrackedMapping, Verdict
from pytest_memtype.guest.region import Region
from pytest_memtype.report.operations import told, told_of_failure
from pytest_memtype.x86.memtype import MemType

REGION = {"start": 0xFD000000, "pages": 4}
MAPPED: dict[str, Any] = {
    "step": 1,
    "actor": "X",
    "operation": "mmap sysfs",
    "region": REGION,
    "requested": "WC",
    "verdict": {"accepted": False, "rule": "alias", "errno": 16},
    "kernel_answer": {"asked": True, "accepted": True, "errno": 0},
    "granted": "UC-",
    "log": ["x86/PAT: something"],
}
DONE: dict[str, Any] = {"step": 2, "actor": "X", "operation": "fork", "arguments": {"name": "Y"}, "log": []}


def test_a_mapping_with_all_three_answers_and_the_log() -> None:
    assert list(told([MAPPED])) == [
        "  1 X mmap sysfs WC [mem 0xfd000000-0xfd003fff]: "
        "verifier EBUSY alias, kernel accepted, page table UC-",
        "      log: x86/PAT: something",
    ]


def test_a_mapping_of_several_pieces_names_each() -> None:
    pieces = {"start": 0xFD004000, "pages": 3, "pieces": [[0xFD004000, 2], [0xFD000000, 1]]}
    (line, *_) = told([MAPPED | {"region": pieces}])
    assert "WC [mem 0xfd004000-0xfd005fff] and [mem 0xfd000000-0xfd000fff]: verifier" in line


def test_what_was_refused_or_never_asked() -> None:
    refused = {"asked": True, "accepted": False, "errno": 22}
    (line,) = told([MAPPED | {"verdict": None, "kernel_answer": refused, "granted": None, "log": []}])
    assert line.endswith("verifier -, kernel EINVAL, page table -")
    (line,) = told([MAPPED | {"kernel_answer": {**refused, "asked": False}, "granted": None, "log": []}])
    assert line.endswith("verifier EBUSY alias, kernel not asked, page table -")


def test_pages_that_differ() -> None:
    (line,) = told([MAPPED | {"granted": [None, "UC-"], "log": []}])
    assert line.endswith("page table -/UC-")


def test_other_operations() -> None:
    results = [12, 0, None, {"signal": 0}]
    lines = list(told({**DONE, "result": result} for result in results))
    assert lines == [
        "  2 X fork(name=Y) -> ENOMEM",
        "  2 X fork(name=Y) -> ok",
        "  2 X fork(name=Y)",
        "  2 X fork(name=Y) -> {'signal': 0}",
    ]


def test_a_question_to_the_verifier() -> None:
    asked = {name: value for name, value in MAPPED.items() if name not in ("kernel_answer", "granted")}
    (line,) = told([asked | {"actor": "test", "operation": "verify", "log": []}])
    assert line == "  1 test verify WC [mem 0xfd000000-0xfd003fff]: verifier EBUSY alias"


def test_the_words_are_those_of_an_outcome() -> None:
    region = Region(0xFD000000, 2)
    conflict = TrackedMapping("drm", Region(0xFD001000, 1), MemType.WC, "kernel")
    for verdict in (
        None,
        Verdict(True, None, 0, None, ()),
        Verdict(True, None, 0, None, ("mtrr-mixed", "mtrr-wb-uncached")),
        Verdict(False, "alias", errno.EBUSY, conflict, ()),
        Verdict(False, "malformed", errno.EINVAL, None, ()),
    ):
        for kernel in (
            KernelAnswer(True, True, 0, ()),
            KernelAnswer(True, False, errno.EINVAL, ()),
            KernelAnswer(False, False, 0, ()),
        ):
            for types in ((MemType.WC, MemType.WC), (MemType.WC, None), ()):
                outcome = Outcome("ioremap", "X", region, MemType.WC, verdict, kernel, types, (), None)
                journal = Journal()
                journal.mapped(outcome, "ioremap")
                assert list(told(journal.entries)) == [f"  1 {outcome}"]


def many(count: int) -> list[dict[str, Any]]:
    return [DONE | {"step": step, "result": 0} for step in range(1, count + 1)]


def test_a_failure_marks_its_operation_and_tells_what_the_kernel_said() -> None:
    failing = MAPPED | {"step": 3, "log": [f"line {number}" for number in range(9)]}
    lines = told_of_failure([*many(2), failing, DONE | {"step": 4, "result": 0}], {3})
    assert [line[:5] for line in lines] == ["    1", "    2", ">   3", "     ", "     ", "     ", "    4"]
    assert lines[3:6] == ["      log: line 0", "      log: line 1", "      log: line 2"]


def test_a_failure_after_many_operations_is_a_screen() -> None:
    lines = told_of_failure(many(500), {300})
    assert lines[0] == "      (290 operations before)"
    assert [line for line in lines if line.startswith(">")] == ["> 300 X fork(name=Y) -> ok"]
    assert lines[-1] == "      (198 operations after)"
    assert len(lines) == 14


def test_an_operation_long_before_is_shown_too() -> None:
    lines = told_of_failure(many(100), {3, 100})
    assert lines[:3] == [
        "      (2 operations before)",
        ">   3 X fork(name=Y) -> ok",
        "      (85 operations before)",
    ]
    assert lines[-1] == "> 100 X fork(name=Y) -> ok"


def test_without_a_mark_the_last_ones_are_shown() -> None:
    lines = told_of_failure(many(20), set())
    assert lines[0] == "      (8 operations before)"
    assert lines[-1] == "   20 X fork(name=Y) -> ok"


def test_addresses_are_hexadecimal() -> None:
    (line,) = told([DONE | {"arguments": {"start": 0xFD000000, "pages": 1}, "result": None}])
    assert line == "  2 X fork(start=0xfd000000, pages=1)"
