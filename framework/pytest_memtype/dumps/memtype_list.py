"""``/sys/kernel/debug/x86/pat_memtype_list`` (memtype_seq_show(), arch/x86/mm/pat/memtype.c): both forms."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from pytest_memtype.dumps.facts import Entry, Span
from pytest_memtype.dumps.text import Cursor
from pytest_memtype.dumps.words import TYPE, type_of_word

_FORMS: Final = (
    # since 5.6 (5557e831f65e or so); the end is the byte behind the last
    re.compile(rf"\bPAT: \[mem 0x(?P<start>[0-9a-f]{{8,16}})-0x(?P<end>[0-9a-f]{{8,16}})\] (?P<type>{TYPE})"),
    # 2.6.27 to 5.5
    re.compile(
        rf"(?:^|[\s:])(?P<type>{TYPE}) @ 0x(?P<start>[0-9a-f]{{1,16}})-0x"
        rf"(?P<end>[0-9a-f]{{1,16}})(?![0-9a-f])"
    ),
)


def memtype_list(cursor: Cursor) -> tuple[tuple[Entry, ...], bool]:
    """The reservations that a text lists, and whether some of the list is in it, be it empty."""
    found: list[Entry] = []
    shown, listing, below = False, 0, 0
    for index, row in enumerate(cursor.rows):
        if "PAT memtype list:" in row.message:
            cursor.use(index)
            shown, listing, below = True, _next(found, listing), index + 1
            continue
        if "PAT: [mem" not in row.message and " @ 0x" not in row.message:
            continue
        hit = cursor.search(index, *_FORMS)
        if hit is None:
            continue
        match, count = hit
        cursor.use(index, count)
        # Words between its lines, as a quoted one has, end a list.
        if any(each.text.strip() for each in cursor.rows[below:index]):
            listing = _next(found, listing)
        below = index + count
        # People paste the list on one line. What begins in a later line is that line's.
        for each in match.re.finditer(match.string, match.start()):
            start, end = int(each["start"], 16), int(each["end"], 16)
            memtype = type_of_word(each["type"])
            if memtype is not None and start < end and each.start() < len(row.message):
                # The kernel keeps it in the order of addresses.
                if found and start < found[-1].span.start:
                    listing = _next(found, listing)
                found.append(Entry(Span(start, end - 1), memtype, row.number, listing))
    return tuple(found), shown or bool(found)


def _next(found: Sequence[Entry], listing: int) -> int:
    """The number of another list, or of this one where nothing of it was found yet."""
    return listing + 1 if found and found[-1].listing == listing else listing
