"""The amount of work that a text of many messages is: in proportion to the text, whatever is in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import SupportsIndex, overload

import pytest

from pytest_memtype.dumps.boots import boots
from pytest_memtype.dumps.facts import Complaint, Dump, Entry, Kind, Line, Mtrrs, Span
from pytest_memtype.dumps.kernel_bugs import kernel_bugs
from pytest_memtype.dumps.read import _with_boots, read
from pytest_memtype.dumps.text import Cursor, Row, rows
from pytest_memtype.dumps.whole_listings import of_whole_lines
from pytest_memtype.dumps.worded_warnings import with_stacks
from pytest_memtype.explain.reservation_bugs import freed_after_refusal
from pytest_memtype.explain.subject import subject
from pytest_memtype.x86.memtype import MemType


class Watched(Complaint):
    """A message that counts how often one of them is looked at."""

    looks = 0

    def __getattribute__(self, name: str) -> object:
        Watched.looks += 1
        return super().__getattribute__(name)


def watched(messages: Iterable[Complaint]) -> tuple[Complaint, ...]:
    return tuple(Watched(**vars(each)) for each in messages)


def warnings_with_words(count: int) -> tuple[Complaint, ...]:
    """The messages and WARNINGs of a hostile text: each has its own address, so that none is a repetition."""
    return read(
        "".join(
            f"WARNING: at mm/memremap.c:1 memremap\nmemremap attempted on ram 0x{n << 12:x} size: 0x1000\n"
            for n in range(1, count + 1)
        )
    ).complaints


def refusals_and_frees(count: int) -> tuple[Complaint, ...]:
    """Refusals of one range, each to another process, and as many lines that free it."""
    return read(
        "".join(
            f"x86/PAT: b:{n} conflicting memory types 1000-2000 write-back<->uncached\n"
            f"x86/PAT: a:{n} freeing invalid memtype [mem 0x1000-0x1fff]\n"
            for n in range(1, count + 1)
        )
    ).complaints


@pytest.mark.parametrize(
    ("messages", "work"),
    [
        (warnings_with_words, with_stacks),
        (refusals_and_frees, lambda found: freed_after_refusal(Dump(complaints=found))),
    ],
    ids=["with_stacks", "freed_after_refusal"],
)
def test_twice_the_messages_are_twice_the_work(
    messages: Callable[[int], tuple[Complaint, ...]],
    work: Callable[[tuple[Complaint, ...]], list[Complaint]],
) -> None:
    looks = []
    for count in (30, 60):
        found = watched(messages(count))
        assert len(found) == 2 * count
        Watched.looks = 0
        assert work(found)
        looks.append(Watched.looks)
    assert looks[1] < 2.3 * looks[0]


def test_a_message_has_the_nearest_of_many_warnings() -> None:
    text = "".join(
        f"WARNING: CPU: 0 PID: {n} at mm/memremap.c:1 memremap+0x1/0x2\n"
        f"memremap attempted on ram 0x{n << 12:x} size: 0x1000\n"
        f"CPU: 0 PID: {n} Comm: p{n} Not tainted\n"
        for n in range(1, 20)
    )
    found = read(text).of(Kind.MEMREMAP_ON_RAM)
    assert [each.process for each in found] == [f"p{n}" for n in range(1, 20)]


class WatchedRows(list[Row]):
    """Lines that count how often one of them is taken by its index."""

    looks = 0

    @overload
    def __getitem__(self, index: SupportsIndex) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Row | list[Row]:
        self.looks += 1
        return super().__getitem__(index)


def test_a_bug_is_looked_for_up_to_the_next_one() -> None:
    lines = WatchedRows(rows(b"kernel BUG at arch/x86/mm/pat.c:1!\n" * 500))
    assert len(kernel_bugs(Cursor(lines))) == 500
    assert lines.looks < 5 * len(lines)


class WatchedSpan(Span):
    """A range that counts how often one of them is looked at."""

    looks = 0

    def __getattribute__(self, name: str) -> object:
        WatchedSpan.looks += 1
        return super().__getattribute__(name)


def test_each_address_is_looked_for_in_the_list_at_once() -> None:
    entries = tuple(Entry(WatchedSpan(n << 16, (n << 16) + 0xFFF), MemType.WC, n) for n in range(1, 301))
    prose = tuple(Line(n, f"what of 0x{n:x}f000 then") for n in range(16, 116))
    WatchedSpan.looks = 0
    assert subject(Dump(entries=entries, prose=prose)).span is None
    assert WatchedSpan.looks < 10 * (len(entries) + len(prose))


class WatchedMtrrs(Mtrrs):
    """A listing that counts how often one of them is looked at."""

    looks = 0

    def __getattribute__(self, name: str) -> object:
        WatchedMtrrs.looks += 1
        return super().__getattribute__(name)


BOOT = """[    0.000000] Linux version 6.1.{0} (a@b) (gcc) #1 SMP
[    0.000000] MTRR default type: uncachable
[    0.000000] MTRR variable ranges enabled:
[    0.000000]   0 base 0{0:09X} mask FC0000000 write-back
"""


@pytest.mark.parametrize(
    "work",
    [of_whole_lines, lambda found, cursor: _with_boots(found, boots(cursor), 0)],
    ids=["of_whole_lines", "_with_boots"],
)
def test_each_listing_of_each_boot_is_looked_at_alone(
    work: Callable[[list[Mtrrs], Cursor], list[Mtrrs]],
) -> None:
    looks = []
    for count in (30, 60):
        text = "".join(BOOT.format(n) for n in range(count))
        cursor = Cursor(rows(text.encode()))
        listings: list[Mtrrs] = [WatchedMtrrs(**vars(each)) for each in read(text).mtrrs]
        assert len(listings) == len(boots(cursor)) == count
        WatchedMtrrs.looks = 0
        assert len(work(listings, cursor)) == count
        looks.append(WatchedMtrrs.looks)
    assert looks[1] < 2.3 * looks[0]
