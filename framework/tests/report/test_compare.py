from __future__ import annotations

from typing import Any

import pytest

from pytest_memtype.report.compare import (
    NOT_RUN,
    OTHERWISE,
    Change,
    Column,
    Difference,
    changes,
    differences,
)

ACCEPTED: dict[str, Any] = {"accepted": True, "rule": None, "errno": 0, "hazards": [], "conflict": None}


def record(step: int = 1, *, case: str = "test_it", **changes: Any) -> dict[str, Any]:
    return {
        "test": f"{case}[K]",
        "tested": "K",
        "case": case,
        "guest": 1,
        "step": step,
        "operation": "ioremap",
        "actor": "drm",
        "region": {"start": 0x1000, "pages": 1},
        "memory": "device",
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


def compared(*records: list[dict[str, Any]]) -> list[Difference]:
    return differences([Column(str(number), each) for number, each in enumerate(records)])


def test_the_same() -> None:
    elsewhere = record(2, region={"start": 0x9000, "pages": 1}, log=["x86/PAT: X:99 freeing"])
    elsewhere["verdict"] = {
        **elsewhere["verdict"],
        "conflict": {**elsewhere["verdict"]["conflict"], "start": 0x9000},
    }
    assert compared([record(), record(2)], [record(), elsewhere]) == []


@pytest.mark.parametrize(
    ("other", "operation", "answer"),
    [
        ({"granted": "WC"}, "ioremap WC of 1 page", "WC"),
        ({"effective": "WC"}, "ioremap WC of 1 page: effective", "WC"),
        (
            {"kernel_answer": {"asked": True, "accepted": False, "errno": 12}, "granted": None},
            "ioremap WC of 1 page",
            "ENOMEM",
        ),
        ({"verdict": ACCEPTED}, "ioremap WC of 1 page: verifier", "accepted"),
    ],
)
def test_another_answer_is_a_difference(other: dict[str, Any], operation: str, answer: str) -> None:
    (difference,) = compared([record(), record(2)], [record(), record(2, **other)])
    assert (difference.case, difference.step, difference.operation) == ("test_it", 2, operation)
    assert difference.answers[1] == answer
    assert difference.answers[0] != answer


def test_the_effective_type_follows_from_the_type_granted() -> None:
    (difference,) = compared([record()], [record(granted="WC", effective="WC")])
    assert difference.side == "kernel"


def test_what_the_test_did_next() -> None:
    """Where the tests part nothing behind is compared; it is told unless it follows from a difference."""
    (difference,) = compared([record(), record(2, granted="WB")], [record(requested="WT"), record(2)])
    assert difference.operation == OTHERWISE
    assert difference.answers == ("ioremap WC of 1 page", "ioremap WT of 1 page")
    (difference,) = compared([record(), record(2)], [record(granted="WC")])
    assert difference.operation != OTHERWISE
    (difference,) = compared([record(), record(2)], [record()])
    assert difference.answers == ("ioremap WC of 1 page", "ends")


def test_a_test_that_only_one_ran_is_no_difference() -> None:
    assert compared([record()], [record(case="test_other")]) == []


def test_a_guest_without_the_module_has_no_verdict_and_may_end_early() -> None:
    alone = record(verdict=None, effective=None)
    assert compared([record(), record(2)], [alone]) == []
    (difference,) = compared([record(), record(2)], [{**alone, "granted": "WC"}])
    assert difference.answers == ("UC", "WC")


def test_three_columns_of_which_one_has_not_run() -> None:
    (difference,) = compared([record()], [], [record(granted="WC")])
    assert difference.answers == ("UC", NOT_RUN, "WC")


def test_what_changed_alike_is_one_change() -> None:
    def run(granted: str) -> list[dict[str, Any]]:
        return [record(step, case=f"test_{n}", granted=granted) for n in range(20) for step in (1, 2)]

    odd = [*run("WC"), record(case="test_odd", granted="WB")]
    found = changes(compared([*run("UC"), record(case="test_odd")], odd))
    assert [(each.answers, len(each.differences), len(each.cases)) for each in found] == [
        (("UC", "WC"), 40, 20),
        (("UC", "WB"), 1, 1),
    ]
    assert isinstance(found[0], Change)
    assert found[0].differences[0].case == "test_0"
