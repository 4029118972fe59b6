from __future__ import annotations

from typing import Any

import pytest

from pytest_memtype.report.compare import differences


def record(step: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "test": "test_it",
        "guest": 1,
        "step": step,
        "operation": "ioremap",
        "actor": "drm",
        "region": {"start": 0x1000, "pages": 1},
        "requested": "WC",
        "verdict": {
            "accepted": False,
            "rule": "alias",
            "errno": 16,
            "hazards": [],
            "conflict": {"owner": "X", "kind": "user", "memtype": "UC", "start": 0x1000, "pages": 1},
        },
        "kernel_answer": {"asked": True, "accepted": True, "errno": 0},
        "granted": "UC",
        "effective": "UC",
        "log": ["x86/PAT: X:78 freeing invalid memtype"],
        **changes,
    }


def test_the_same() -> None:
    elsewhere = record(region={"start": 0x9000, "pages": 1}, log=["x86/PAT: X:99 freeing invalid memtype"])
    elsewhere["verdict"] = {
        **elsewhere["verdict"],
        "conflict": {**elsewhere["verdict"]["conflict"], "start": 0x9000},
    }
    assert differences([record(), record(2)], [record(2), elsewhere]) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"granted": "WC"},
        {"effective": "WC"},
        {"kernel_answer": {"asked": True, "accepted": False, "errno": 12}},
        {"verdict": {"accepted": True, "rule": None, "errno": 0, "hazards": [], "conflict": None}},
        {"requested": "WT"},
        {"result": 12},
    ],
)
def test_another_answer_is_a_difference(changes: dict[str, Any]) -> None:
    (difference,) = differences([record(), record(2)], [record(), record(2, **changes)])
    assert difference.place == ("test_it", 1, 2)
    assert difference.operation == "ioremap"
    assert difference.first != difference.second


def test_an_operation_that_one_run_lacks() -> None:
    (difference,) = differences([record(), record(2)], [record()])
    assert difference.second is None
    (difference,) = differences([], [record()])
    assert difference.first is None
