"""Lines of one boot that have nothing to do with each other: none is the reason of the other."""

from __future__ import annotations

import pytest

from pytest_memtype import MemType
from pytest_memtype.bugs.catalogue import catalogue
from pytest_memtype.dumps.facts import Complaint, Kind, Span
from pytest_memtype.dumps.read import read
from pytest_memtype.explain.event import is_of_one_event
from pytest_memtype.explain.explanation import Explanation, explain


def explained(text: str) -> Explanation:
    return explain(read(text), [each.bug for each in catalogue()])


HERE, THERE = Span(0xD0000000, 0xD0FFFFFF), Span(0xE0000000, 0xE0000FFF)
MAIN = Complaint(Kind.FREEING_INVALID, 10, "", span=HERE, process="Xorg", pid=900)


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (Complaint(Kind.USER_REFUSED, 11, "", span=THERE, pid=900), False),
        (Complaint(Kind.USER_REFUSED, 900, "", span=Span(0xD0001000, 0xD0001FFF), pid=4), True),
        (Complaint(Kind.WARNING, 500, "", pid=900), True),
        (Complaint(Kind.WARNING, 11, "", pid=4), False),
        (Complaint(Kind.WARNING, 30, ""), True),
        (Complaint(Kind.WARNING, 500, ""), False),
        (Complaint(Kind.PAT_DISABLED, 500, ""), True),
    ],
)
def test_what_may_be_of_one_event(other: Complaint, same: bool) -> None:
    assert is_of_one_event(MAIN, other) is same
    assert is_of_one_event(None, other)


FREED = "[   10.000000] x86/PAT: Xorg:900 freeing invalid memtype [mem 0xd0000000-0xd0ffffff]\n"
OTHER = (
    "[ 5000.000000] x86/PAT: dpdk:4000 map pfn expected mapping type uncached-minus for "
    "[mem 0x{}0000000-0x{}0000fff], got write-back\n"
)


def test_a_bug_of_other_memory_is_not_told() -> None:
    assert "wb-first" not in [each.id for each in explained(FREED + OTHER.format("e", "e")).suspects]
    assert "wb-first" in [each.id for each in explained(FREED + OTHER.format("d", "d")).suspects]


CONFLICT = "[   10.000000] x86/PAT: {} conflicting memory types d0000000-d8000000 {}<->{}\n"
FAILED = "[   10.000001] x86/PAT: memtype_reserve failed [mem 0xd0000000-0xd7ffffff], track {0}, req {0}\n"
WC, UC_MINUS = "write-combining", "uncached-minus"


def test_what_another_process_asked_for_is_not_the_firsts() -> None:
    first, second = CONFLICT.format("X:1", WC, UC_MINUS), CONFLICT.format("Y:2", UC_MINUS, WC)
    assert explained(first + second + FAILED.format(WC)).about.asked is None
    assert explained(first + FAILED.format(UC_MINUS) + second + FAILED.format(WC)).about.asked is (
        MemType.UC_MINUS
    )
    assert explained(first + first + FAILED.format(UC_MINUS)).about.asked is MemType.UC_MINUS


def test_the_reason_of_a_refusal_is_told_of_its_own_memory() -> None:
    conflict = CONFLICT.format("X:1", WC, UC_MINUS).replace("d0000000-d8000000", "90000000-90001000")
    cut = FAILED.format(WC).replace("[   10", "[ 4000")
    text = f"{cut}{conflict.replace('[   10', '[ 5000')}"
    assert "the line above this one, which the text lacks" in explained(text).story.answer


CALLS = "The driver calls set_memory_wc().\n"
MAPS = "It fails when my program calls mmap().\n"


@pytest.mark.parametrize(
    ("words", "strict", "unless"),
    [(CALLS, True, False), (MAPS, False, False), (CALLS + MAPS, False, True), ("", False, True)],
)
def test_words_that_speak_of_both_kinds_of_requests_say_neither(
    words: str, strict: bool, unless: bool
) -> None:
    found = explained(words + CONFLICT.format("X:1", WC, UC_MINUS))
    assert found.about.strict is strict
    assert ("unless the caller" in found.story.answer) is unless


def test_a_page_that_the_kernel_takes_away_is_asked_for_strictly() -> None:
    fault = "[   10.000000] Memory failure: {}: recovery action for dax page: Recovered\n"
    text = MAPS + fault + CONFLICT.format("test:5", UC_MINUS, "write-back").replace("d8000000", "d0001000")
    assert explained(text.format("0xd0000")).about.strict
    assert not explained(text.format("0xd1000")).about.strict


NOPAT = "My tool maps /dev/mem with O_SYNC, and the cache isn't bypassed.\n"


@pytest.mark.parametrize(
    ("words", "off"),
    [
        ("The board boots with nopat.\n", True),
        ("[    0.000000] Command line: ro nopat\n", True),
        ("Somebody said that I should boot with nopat.\n", False),
        ("Is nopat safe?\n", False),
        # Only a kernel that uses the PAT says so.
        (f"The board boots with nopat.\n{FREED}", False),
    ],
)
def test_an_advice_to_turn_the_pat_off_does_not_turn_it_off(words: str, off: bool) -> None:
    assert ("nopat-devmem" in [each.id for each in explained(NOPAT + words).suspects]) is off


SPLIT_LEAK = "[    0.000000] Linux version 5.10.100 (x@y) (gcc) #1\n" + FREED


@pytest.mark.parametrize(
    ("words", "sure"),
    [
        ("I have two monitors, and the desktop is split between them.\n", False),
        ("The mapping was split before.\n", True),
        ("mprotect(0x7f60ea596000, 4096, PROT_READ) = 0\nmunmap(0x7f60ec196000, 131263) = 0\n", False),
        (
            "mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_SHARED, 3, 0) = 0x7f60ea596000\n"
            "[pid  1200] mprotect(0x7f60ea597000, 4096, PROT_READ) = 0\n",
            True,
        ),
        ("It happens where I call mprotect(addr, 4096, PROT_READ) on half of it.\n", True),
    ],
)
def test_a_word_that_is_not_of_the_mapping_is_no_sequence(words: str, sure: bool) -> None:
    assert (explained(SPLIT_LEAK + words).known_bug == "vma-split-leak") is sure


def test_a_screen_that_is_corrupt_is_no_bug_of_ram() -> None:
    words = "My AGP card shows a corrupted screen.\n"
    mismatch = "mtrr: type mismatch for e8000000,8000000 old: write-back new: write-combining\n"
    assert not explained(words + mismatch).suspects
    assert [each.id for each in explained(words).suspects] == ["agp-2002"]
