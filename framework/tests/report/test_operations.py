"""Records, told to a person."""

from __future__ import annotations

from typing import Any

from pytest_memtype.report.operations import told

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
        "  1 X: mmap sysfs WC [mem 0xfd000000-0xfd003fff]: "
        "verifier EBUSY alias, Linux accepted, page table UC-",
        "      log: x86/PAT: something",
    ]


def test_what_was_refused_or_never_asked() -> None:
    refused = {"asked": True, "accepted": False, "errno": 22}
    (line,) = told([MAPPED | {"verdict": None, "kernel_answer": refused, "granted": None, "log": []}])
    assert line.endswith("verifier not asked, Linux EINVAL, page table -")
    (line,) = told([MAPPED | {"kernel_answer": {**refused, "asked": False}, "granted": None, "log": []}])
    assert line.endswith("verifier EBUSY alias, Linux not asked, page table -")


def test_pages_that_differ() -> None:
    (line,) = told([MAPPED | {"granted": [None, "UC-"], "log": []}])
    assert line.endswith("page table - UC-")


def test_other_operations() -> None:
    results = [12, 0, None, {"signal": 0}]
    lines = list(told({**DONE, "result": result} for result in results))
    assert lines == [
        "  2 X: fork(name=Y) -> ENOMEM",
        "  2 X: fork(name=Y) -> 0",
        "  2 X: fork(name=Y)",
        "  2 X: fork(name=Y) -> {'signal': 0}",
    ]


def test_a_question_to_the_verifier() -> None:
    asked = {name: value for name, value in MAPPED.items() if name not in ("kernel_answer", "granted")}
    (line,) = told([asked | {"actor": "test", "operation": "verify", "log": []}])
    assert line == "  1 test: verify WC [mem 0xfd000000-0xfd003fff]: verifier EBUSY alias"
