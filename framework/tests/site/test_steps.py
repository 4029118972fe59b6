from __future__ import annotations

from typing import Any

import pytest

from pytest_memtype.site.steps import COLUMNS, line

HEAD = {"guest": 1, "step": 3, "actor": "drm", "log": []}


def shown(record: dict[str, Any]) -> dict[str, Any]:
    return dict(zip(COLUMNS, line({**HEAD, **record}), strict=True))


def request(**changes: Any) -> dict[str, Any]:
    return {
        "operation": "ioremap", "region": {"start": 0xFD000000, "pages": 2}, "memory": "ram", "mtrr": "WB",
        "arguments": {}, "handle": 1, "address": 0xFFFF0000, "beside": ["mmap sysfs WC"], "requested": "WC",
        "verdict": {"accepted": True, "rule": None, "errno": 0, "conflict": None, "hazards": []},
        "kernel_answer": {"asked": True, "accepted": True, "errno": 0}, "granted": "WC", "effective": "UC",
        **changes,
    }  # fmt: skip


def test_a_request() -> None:
    found = shown(request())
    assert found["region"] == "0xfd000000 2 pages of RAM over WB MTRRs at 0xffff0000"
    assert (found["verdict"], found["linux"], found["table"]) == ("accepted", "accepted", "WC (effective UC)")
    assert found["tracked"] == "mmap sysfs WC"
    assert found["disagree"] == 0


def test_a_refusal_and_a_substitution_disagree() -> None:
    refused = shown(
        request(kernel_answer={"asked": True, "accepted": False, "errno": 22}, granted=None, effective=None)
    )
    assert (refused["linux"], refused["table"], refused["disagree"]) == ("refused, EINVAL", "", 1)
    given = shown(request(granted=["WC", "UC-"], effective=["WC", "UC"]))
    assert (given["linux"], given["disagree"]) == ("substituted", 1)
    assert given["table"] == "WC 0, UC- 1 (effective WC 0, UC 1)"


@pytest.mark.parametrize(
    ("record", "column", "text"),
    [
        ({"operation": "page_table", "arguments": {}, "result": ["WC", "WC"]}, "table", "WC"),
        ({"operation": "lookup", "arguments": {}, "result": "WC"}, "verdict", "WC"),
        ({"operation": "memtype_list", "arguments": {"start": 0}, "result": []}, "tracked", "nothing"),
        ({"operation": "munmap", "arguments": {"start": 4096}, "result": 22}, "linux", "EINVAL"),
        (
            {"operation": "shell", "arguments": {"command": "ls"}, "result": {"output": "x"}},
            "linux",
            '{"output": "x"}',
        ),
    ],
)
def test_what_was_looked_at(record: dict[str, Any], column: str, text: str) -> None:
    found = shown(record)
    assert found[column] == text
    others = [found[name] for name in ("verdict", "linux", "table", "tracked") if name != column]
    assert others == ["", "", ""]


def test_texts_are_bounded_and_written_out() -> None:
    found = shown({"operation": "shell", "arguments": {"command": "\x1b]0;x\x07"}, "result": "y" * 10_000,
                   "log": ["\x00"] * 60})  # fmt: skip
    assert found["operation"] == "shell command=\\x1b]0;x\\x07"
    assert found["linux"].endswith("yyy ... (5904 more characters)")
    assert found["log"][0] == "\\x00"
    assert found["log"][-1] == "... and 10 more lines"
