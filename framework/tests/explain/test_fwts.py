"""What the firmware test suite prints and finds (fwts, src/cpu/mtrr/mtrr.c)."""

from __future__ import annotations

import pytest

from pytest_memtype.dumps.facts import Span
from pytest_memtype.dumps.read import read
from pytest_memtype.explain.explanation import as_json, explain

_TEST = "FAILED [MEDIUM] MTRR{}Attr: Test 1, Memory range {} ({}) {} attribute"
_INCORRECT, _LACKING = "has incorrect", "is lacking"


@pytest.mark.parametrize("ends", [("80000000", "c0000000"), ("7fffffff", "bfffffff")])
def test_ends_are_the_last_byte_or_the_first_behind(ends: tuple[str, str]) -> None:
    """get_mtrrs() had entry->end = start + size once, and has start + size - 1 today."""
    text = (
        f"MTRR overview\nReg 0: 0x0000000080000000 - 0x00000000{ends[1]} (  1024 MB)   Uncached\n"
        f"Reg 1: 0x0000000000000000 - 0x00000000{ends[0]} (  2048 MB)   Write-Back\n"
    )
    layout = as_json(explain(read(text), []))["layout"]
    assert layout["ranges"] == [["0x80000000", "1G", "UC"], ["0x0", "2G", "WB"]]


# https://github.com/intel/luv-yocto/issues/89 asks what the first one means.
@pytest.mark.parametrize(
    "line",
    [
        _TEST.format("Incorrect", "0x1000 to 0x8dfff", "System RAM", _INCORRECT),
        _TEST.format("Incorrect", "0x1000 to 0x8dfff", "System RAM", _INCORRECT) + " Default (Uncached).",
        _TEST.format("Lacking", "0x1000 to 0x8dfff", "System RAM", _LACKING) + " Write-Back.",
        # fwts wraps its log.
        "FAILED [MEDIUM] MTRRLackingAttr: Test 1, Memory range 0x1000 to 0x8dfff (System\n"
        "RAM) is lacking attribute Write-Back.",
    ],
)
def test_below_a_mebibyte_proc_mtrr_does_not_decide(line: str) -> None:
    dump = read(line)
    assert not dump.unread
    found = explain(dump, [])
    assert found.about.span == Span(0x1000, 0x8DFFF, "System RAM")
    assert "may be no fault" in found.story.answer
    assert "fixed ranges" in found.story.answer
    assert found.story.rule.startswith("none of Linux'")


def test_device_memory_that_is_write_back_may_be_cached() -> None:
    line = _TEST.format("Incorrect", "0xfebf0000 to 0xfebf0fff", "0000:00:03.0", _INCORRECT) + " Write-Back."
    found = explain(read(line), [])
    assert "0000:00:03.0, 0xfebf0000-0xfebf0fff (4K), is cached (write-back, WB)" in found.story.answer
    assert found.story.danger.startswith("maybe")


def test_ram_that_is_not_write_back_is_slow() -> None:
    line = _TEST.format("Lacking", "0x100000000 to 0x13fffffff", "System RAM", _LACKING) + " Write-Back."
    found = explain(read(line), [])
    assert "isn't cached (write-back, WB), as it should be" in found.story.answer
    assert found.story.danger.startswith("no")


def test_one_that_is_cut_is_called_so() -> None:
    line = "FAILED [MEDIUM] MTRRIncorrectAttr: Test 1, Memory range 0x1000 to 0x8dfff"
    answer = explain(read(line), []).story.answer
    assert answer.startswith("the line is cut, so that not all can be said of it")
