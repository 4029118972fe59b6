from __future__ import annotations

from typing import Any

import pytest

from pytest_memtype.report.answer import answers, question, reservations
from pytest_memtype.report.page_types import page_types, recorded


def looked(operation: str, result: Any, **arguments: Any) -> dict[str, Any]:
    return {"operation": operation, "actor": "test", "arguments": arguments, "result": result}


@pytest.mark.parametrize(
    ("record", "asked", "answer"),
    [
        (looked("munmap", 0, handle=7, offset=2, pages=2), "munmap offset=2 pages=2", "ok"),
        (looked("fork", 12, name="Y"), "fork name=Y", "ENOMEM"),
        (
            looked("memtype_list", [[0x5000, 2, "UC-"]], start=0x4000, pages=4),
            "memtype_list pages=4",
            "UC- 1-2",
        ),
        (looked("memtype_list", [], start=0x4000, pages=4), "memtype_list pages=4", "nothing"),
        (looked("memtype_list", None, start=0x4000, pages=4), "memtype_list pages=4", "no list"),
        (looked("registers", ["PAT WB", "PAT WB"]), "registers", "PAT WB"),
        (looked("page_table", ["WC", None], handle=3), "page_table", "WC 0, - 1"),
        (looked("read", {"signal": 7, "value": 0}, handle=3, offset=1), "read offset=1", "signal 7"),
        (looked("write", {"signal": 0, "value": 5}, offset=1), "write offset=1", "ok"),
        (looked("lookup", "UC-", start=0, pages=1), "lookup pages=1", "UC-"),
        # The same file in another checkout, or where a cluster's worker has unpacked it.
        (
            looked("load", 0, source="/home/me/toy.c", parameters=["x=1"]),
            "load source=toy.c parameters=['x=1']",
            "ok",
        ),
        (looked("put", 0, path="/home/me/a.txt", to="/tmp/a.txt"), "put path=a.txt to=/tmp/a.txt", "ok"),
        (looked("mmap", "died"), "mmap", "died"),
        (looked("read", "died", offset=2), "read offset=2", "died"),
    ],
)
def test_what_was_done_and_seen(record: dict[str, Any], asked: str, answer: str) -> None:
    assert question(record) == asked
    assert answers(record) == {"kernel": answer}


def test_the_output_of_a_command_is_not_compared() -> None:
    record = looked("shell", {"status": 0, "output": "Linux 6.1"}, command="uname -v")
    assert question(record) == "shell uname -v"
    assert answers(record) == {}


def test_the_length_of_a_file_is_no_error_number() -> None:
    record = looked("get", 5, path="/tmp/a.txt")
    assert question(record) == "get path=/tmp/a.txt"
    assert answers(record) == {}


def test_runs_of_pages() -> None:
    assert page_types(["WC"] * 4) == "WC"
    assert page_types(["WC", "WC", None, "UC"]) == "WC 0-1, - 2, UC 3"
    assert reservations([(0x1000, 1, "WC"), (0x3000, 3, "UC")], 0x1000) == "WC 0, UC 2-4"


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("cat /proc/317/maps /proc/mtrr", "cat /proc/PID/maps /proc/mtrr"),
        ("kill -9 317", "kill -9 PID"),
        ("kill 317; sleep 1", "kill PID; sleep 1"),
    ],
)
def test_a_process_in_a_command_has_no_id(command: str, told: str) -> None:
    assert question(looked("shell", {"status": 0, "output": ""}, command=command)) == f"shell {told}"


def test_the_types_of_many_pages_are_recorded_in_words() -> None:
    few: list[str | None] = [*["UC"] * 32, *["WB"] * 32]
    assert recorded(few) == few
    assert recorded(few + few[-1:]) == page_types(few + few[-1:]) == "UC 0-31, WB 32-64"
    assert recorded("WB") == "WB"
    assert recorded(None) is None
