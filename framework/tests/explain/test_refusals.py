"""Refusals and what follows of them: two types of one range, and the range that is freed in vain."""

from __future__ import annotations

import pytest

from pytest_memtype.bugs.catalogue import catalogue
from pytest_memtype.bugs.facts import Bug
from pytest_memtype.dumps.read import read
from pytest_memtype.explain.explanation import explain

_CONFLICT = "x86/PAT: udevd:386 conflicting memory types bf800000-fffff000 write-combining<->uncached-minus"
_FAILED = (
    "x86/PAT: memtype_reserve failed [mem 0xbf800000-0xffffefff], track write-combining, req write-combining"
)
_FREED = "x86/PAT: udevd:386 freeing invalid memtype [mem 0xbf800000-0xffffefff]"


@pytest.fixture(scope="module")
def bugs() -> list[Bug]:
    return [each.bug for each in catalogue()]


def test_the_answer_is_as_sure_as_the_known_bug(bugs: list[Bug]) -> None:
    """__ioremap_caller() has memtype_reserve() choose another type, so both types are held."""
    found = explain(read(f"{_CONFLICT}\n{_FAILED}\nioremap memtype_reserve failed -16\n"), bugs)
    assert found.known_bug == "mixed-overlap"
    assert "unless" not in found.story.answer
    assert "unless the caller" in explain(read(f"{_CONFLICT}\n{_FAILED}\n"), bugs).story.answer


def test_what_was_refused_is_freed_in_vain(bugs: list[Bug]) -> None:
    """As set_memory_wb() does behind a set_memory_uc() that failed: no mapping was split, nobody forked."""
    found = explain(read(f"{_FAILED}\n{_FREED}\n"), bugs)
    assert not found.suspects
    assert "Line 2 frees that range later" in found.story.answer
    # Nobody was refused before.
    assert explain(read(f"{_FREED}\n{_FAILED}\n"), bugs).suspects
    other = _FREED.replace("0xbf800000", "0xbf700000")
    assert explain(read(f"{_FAILED}\n{other}\n"), bugs).suspects


def test_who_changed_ram_is_not_said(bugs: list[Bug]) -> None:
    """Whoever asks twice gets the same line (reserve_ram_pages_type())."""
    line = "reserve_ram_pages_type failed 0x32fc5000-0x32fc6000, track 0x10, req 0x10"
    answer = explain(read(line), bugs).story.answer
    assert "somebody else" not in answer
    assert "maybe the same driver" in answer
