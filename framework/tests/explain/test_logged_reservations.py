"""What debugpat logs says why a range isn't reserved any more that is freed."""

from __future__ import annotations

import pytest

from pytest_memtype.bugs.catalogue import catalogue
from pytest_memtype.dumps.read import read
from pytest_memtype.explain.explanation import Explanation, explain


def explained(text: str) -> Explanation:
    return explain(read(text), [each.bug for each in catalogue()])


def added(span: str) -> str:
    types = "track uncached-minus, req uncached-minus, ret uncached-minus"
    return f"[    9.000000] x86/PAT: memtype_reserve added [mem {span}], {types}\n"


def request(span: str) -> str:
    return f"[    9.000000] x86/PAT: memtype_free request [mem {span}]\n"


FIRST, SECOND = "0xfd000000-0xfd001fff", "0xfd001000-0xfd002fff"
END_OF_FIRST = "0xfd001000-0xfd001fff"
INVALID = f"[    9.000000] x86/PAT: test:178 freeing invalid memtype [mem {FIRST}]\n"


def test_another_mappings_piece_took_the_end() -> None:
    """Two mappings overlap; a part of the second ends where the first does (memtype_match(), 4.5 to 6.15)."""
    found = explained(added(FIRST) + added(SECOND) + request(END_OF_FIRST) + INVALID)
    assert "line 3 gave back 0xfd001000-0xfd001fff (4K)" in found.story.answer
    assert "fork" not in found.story.answer
    assert [each.id for each in found.suspects] == ["vma-split-leak"]
    assert found.known_bug == "vma-split-leak"
    # The version isn't said.
    assert not found.suspects[0].sure


@pytest.mark.parametrize(
    "log",
    [
        # The request is exactly a reservation's.
        added(FIRST) + added(END_OF_FIRST) + request(END_OF_FIRST) + INVALID,
        # It comes later, or ends elsewhere.
        added(FIRST) + INVALID + request(END_OF_FIRST),
        added(FIRST) + request("0xfd001000-0xfd002fff") + INVALID,
        # The range is reserved once more.
        added(FIRST) + request(END_OF_FIRST) + added(FIRST) + INVALID,
        # Another line says that the end was nobody's: 2.6.32 logs the request all the same.
        added(FIRST) + INVALID.replace(FIRST, END_OF_FIRST) + request(END_OF_FIRST) + INVALID,
        # From 6.16 on no end can be taken.
        "[    0.000000] Linux version 6.16.1 (x@y)\n" + added(FIRST) + request(END_OF_FIRST) + INVALID,
    ],
)
def test_what_the_log_does_not_say(log: str) -> None:
    assert "shortened this one" not in explained(log).story.answer


def test_what_debugpat_logs_is_no_complaint() -> None:
    dump = read(added(FIRST) + request(FIRST))
    assert not dump.complaints
    assert len(dump.freed) == 1
    assert not dump.unread


def test_a_stack_without_a_heading_below_the_log() -> None:
    """With a dump_stack() in reserve_memtype()."""
    log = added("0xd0000000-0xd02fffff").replace("memtype_reserve", "reserve_memtype")
    stack = (
        "And all these are doing ioremap from drm_fb_helper_dirty_work():\n"
        "[  114.330825]  reserve_memtype+0x1b0/0x410\n"
        "[  114.330829]  ? ttm_bo_kmap+0x1d7/0x270 [ttm]\n"
        "[  114.330830]  __ioremap_caller.constprop.14+0xf6/0x300\n"
        "[  114.330835]  ttm_bo_kmap+0x1d7/0x270 [ttm]\n"
    )
    found = explained(log + stack)
    assert found.dump.request_stack == ("__ioremap_caller", "ttm_bo_kmap")
    assert not found.dump.unread
    assert "a request, called by __ioremap_caller(), ttm_bo_kmap()" in found.story.answer
