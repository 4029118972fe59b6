from __future__ import annotations

from typing import Any

import pytest

from pytest_memtype.report.overview_table import kind_of, overview
from pytest_memtype.report.terminal import drawn
from pytest_memtype.report.verdict_table import Answer


@pytest.mark.parametrize(
    ("verifier", "linux", "kind"),
    [
        ("accepted", "accepted", "accepted"),
        ("alias", "refused", "refused"),
        ("alias", "accepted", "≠ mapped"),
        ("alias", "substituted", "≠ mapped"),
        ("accepted", "substituted", "≠ substituted"),
        ("accepted", "refused", "≠ refused"),
        ("alias", "not asked", "not asked"),
        ("-", "accepted", "no verifier"),
    ],
)
def test_kinds(verifier: str, linux: str, kind: str) -> None:
    assert kind_of(Answer(verifier, linux, "WC")) == kind


def test_rows() -> None:
    def record(layout: str, granted: str) -> dict[str, Any]:
        return {
            "kernel": "6.1.0-56-cloud-amd64",
            "layout": layout,
            "requested": "WC",
            "verdict": {"accepted": True, "rule": None},
            "kernel_answer": {"asked": True, "accepted": True, "errno": 0},
            "granted": granted,
        }

    records = [record("wb-device", "WC"), record("bare", "WC"), record("wb-device", "UC-"), {"verb": "log"}]
    lines = [line.split() for line in drawn([overview(records)]).splitlines()]
    assert ["layout", "mappings", "accepted", "≠", "substituted"] in lines
    assert ["bare", "1", "1"] in lines
    assert ["wb-device", "2", "1", "1"] in lines
    assert ["all", "3", "2", "1"] in lines
