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


@pytest.mark.parametrize("cut", [", tra", "", ", track uncached-minus, req"])
def test_a_refusal_that_is_cut_is_no_wrong_range(cut: str) -> None:
    """Only the WARN of a range that is none lacks "track", and has "failed:" (memtype_reserve())."""
    found = explain(read(f"x86/PAT: memtype_reserve failed [mem 0xfd000000-0xfd3fffff]{cut}"), []).story
    assert "couldn't reserve it" in found.answer
    assert "no range" not in found.answer
    assert "EINVAL" not in found.rule
    # That line doesn't say why of itself.
    assert "line 1 may say why" not in found.answer


@pytest.mark.parametrize("end", [", req write-back", ", r", ""])
def test_a_range_that_is_none(end: str) -> None:
    line = f"memtype_reserve failed: [mem 0x3ffffff00000-0xffffffffffffffff]{end}"
    found = explain(read(line), []).story
    assert "is no range that Linux can reserve" in found.answer
    assert "EINVAL" in found.rule


def test_what_is_partly_ram_has_no_such_line() -> None:
    """memtype_reserve() returns EINVAL for it before it comes to memtype_check_insert(), without a line."""
    assert "RAM" not in explain(read(_FAILED), []).story.rule


_FORK = "x86/PAT: t:9 map pfn expected mapping type write-back for [mem 0xfd000000-0xfd000fff], got {}"


@pytest.mark.parametrize(
    ("kernel", "place"),
    [
        ("3.2.1", "arch/x86/mm/pat.c, track_pfn_vma_copy()"),
        ("3.7.1", "arch/x86/mm/pat.c, track_pfn_copy()"),
        ("6.12.1", "arch/x86/mm/pat/memtype.c, track_pfn_copy()"),
        (None, "(before 5.6: pat.c; before 3.7: pat.c, track_pfn_vma_copy())"),
    ],
)
def test_the_place_where_a_fork_is_refused(kernel: str | None, place: str) -> None:
    """5180da410db6 renamed it."""
    banner = f"Linux version {kernel} (x@y)\n" if kernel else ""
    line = _FORK.format("write-through")
    line = line if kernel else line.removeprefix("x86/PAT: ")
    found = explain(read(banner + line), []).story
    assert "couldn't fork" in found.answer
    assert place in found.rule


def test_a_fork_reserves_nothing_since_6_16() -> None:
    """7bd7d74ec019 took track_pfn_copy() away; is_new_memtype_allowed() lets this pair pass."""
    found = explain(read(f"Linux version 6.17.1 (x@y)\n{_FORK.format('write-through')}"), []).story
    assert "fork" not in f"{found.answer} {found.rule}"
    assert "it forbids to give" not in found.rule


def test_the_old_name_of_a_function_that_looks_for_the_first_page() -> None:
    text = "WARNING: at arch/x86/mm/pat.c:758 untrack_pfn_vma+0x1/0x2()"
    assert "couldn't be read from its page table" in explain(read(text), []).story.answer
