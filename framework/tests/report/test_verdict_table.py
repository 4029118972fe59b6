from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest
from rich.console import Console

from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.report.terminal import drawn
from pytest_memtype.report.verdict_table import answer, hardware_words, rows, summary, verdict_table


def record(
    *,
    requested: str = "WC",
    rule: str | None = None,
    asked: bool = True,
    accepted: bool = True,
    granted: Any = "WC",
    beside: tuple[str, ...] = (),
) -> dict[str, Any]:
    return {
        "layout": "firmware",
        "operation": "ioremap",
        "memory": "device",
        "requested": requested,
        "beside": list(beside),
        "verdict": {"accepted": rule is None, "rule": rule},
        "kernel_answer": {"asked": asked, "accepted": accepted, "errno": 0},
        "granted": granted,
    }


@pytest.mark.parametrize(
    ("given", "linux", "disagree"),
    [
        (record(), "accepted", False),
        (record(rule="alias"), "accepted", True),
        (record(rule="alias", granted="UC-"), "substituted", True),
        (record(granted="UC-"), "substituted", True),
        (record(rule="alias", accepted=False, granted=None), "refused", False),
        (record(accepted=False, granted=None), "refused", True),
        (record(rule="alias", asked=False, accepted=False, granted=None), "not asked", False),
    ],
)
def test_where_verifier_and_linux_disagree(given: dict[str, Any], linux: str, disagree: bool) -> None:
    assert answer(given).linux == linux
    assert answer(given).disagree == disagree


def test_operations_answered_alike_share_a_row() -> None:
    (row,) = rows([record(), record(), record(requested="UC", granted="UC")][:2])
    assert (row.count, row.asked) == (2, {"ioremap": ["WC"]})
    alike = rows(
        [record(requested=each, rule="alias", beside=("ioremap WC",)) for each in ("UC", "UC-", "UC")]
    )
    assert [(row.count, row.asked) for row in alike] == [(3, {"ioremap": ["UC", "UC-"]})]


def test_pages_that_differ_are_shown() -> None:
    assert answer(record(granted=["WC", "WC", "UC-"])).page_table == "WC/WC/UC-"


def test_operations_that_map_nothing_are_left_out() -> None:
    assert rows([{"operation": "release", "layout": "firmware"}]) == []


def test_the_table_is_text() -> None:
    console = Console(width=100, record=True, file=None, force_terminal=False)
    records = [record(), record(requested="UC-", rule="alias", beside=("ioremap WC",))]
    with console.capture() as text:
        console.print(verdict_table("6.1.0-test", records))
    assert "6.1.0-test, layout firmware" in text.get()
    line = next(line for line in text.get().splitlines() if "alias" in line)
    assert line.split() == ["ioremap", "WC", "ioremap", "UC-", "alias", "substituted", "WC", "≠", "1"]
    assert summary(records).startswith("2 mappings asked for; the verifier refused 1;")


def test_guests_of_other_hardware_have_a_table_of_their_own() -> None:
    usual = asdict(Hardware())
    without = {**usual, "cpu": "qemu64,-mtrr", "cpus": 2}
    records = [{**record(), "hardware": each} for each in (usual, without, usual)]
    console = Console(width=100, record=True, file=None, force_terminal=False)
    with console.capture() as text:
        console.print(verdict_table("6.1.0-test", records))
    titles = [line.strip() for line in text.get().splitlines() if "layout" in line]
    assert titles == ["6.1.0-test, layout firmware", "6.1.0-test, layout firmware, cpu=qemu64,-mtrr, cpus=2"]
    assert [row.count for row in rows(records)] == [2, 1]


def test_hardware_in_words_is_the_same_when_it_was_read_from_a_file() -> None:
    devices = Hardware(
        devices=("edu", "ivshmem-plain,memdev=m"), objects=("memory-backend-memfd,id=m",), cpus=2
    )
    for hardware, words in [
        (Hardware(), ""),
        (devices, "cpus=2, devices=edu ivshmem-plain,memdev=m, objects=memory-backend-memfd,id=m"),
    ]:
        made = asdict(hardware)
        assert hardware_words(made) == hardware_words(json.loads(json.dumps(made))) == words


def test_ram_is_told_from_device_memory() -> None:
    found = rows([record(), {**record(), "memory": "ram"}, record(beside=("ioremap WC",))])
    assert [row.first for row in found] == ["nothing", "nothing (RAM)", "ioremap WC"]


def test_no_column_is_lost_where_pages_differ() -> None:
    """The mark and the count are the last two, and stay where types of eight pages are before them."""
    records = [
        record(
            requested=requested, rule="impossible", granted=["UC-", "WC"] * 4, beside=("mmap insert_pfn WC",)
        )
        for requested in ("UC", "UC-", "WC", "WT", "WP", "WB")
    ]
    lines = drawn([verdict_table("6.1.0-test", records)]).splitlines()
    (line,) = [line for line in lines if "impossible" in line]
    assert line.split()[-2:] == ["≠", "6"]
    assert max(map(len, lines)) <= 120
