"""Whether a listing of MTRRs is all of it, by its registers' numbers and what the kernel says of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Final

from pytest_memtype.dumps.facts import Complaint, Kind, Mtrrs
from pytest_memtype.dumps.text import Cursor

#: Each kind of register as programs print it: Linux and coreboot, mtrr_cleanup, fwts, U-Boot, fixed ranges.
_REGISTERS: Final = re.compile(
    r"\b\d{1,3} (?:base (?:0x)?[0-9A-F]{6,16} mask|disabled)\b|\breg \d{1,3}, base: \d"
    r"|\bReg \d{1,3}: (?:0x|disabled)|\b\d{1,2} +[YN] +\w{1,16} +[0-9a-f]{16} "
    r"|\b[0-9A-F]{5}-[0-9A-F]{5} (?:unc|write-)",
    re.I,
)

#: So many messages on registers are compared with each listing.
_MOST: Final = 16


def without_gaps(listings: Iterable[Mtrrs], complaints: Sequence[Complaint]) -> list[Mtrrs]:
    """The listings, of which those that lack registers aren't complete: people quote some lines of one.

    :param listings: The listings of a text.
    :param complaints: The messages of the text.
    """
    full = any(each.kind is Kind.MTRR_FULL for each in complaints)
    mismatches = [each for each in complaints if each.kind is Kind.MTRR_MISMATCH][:_MOST]
    return [
        replace(each, complete=each.complete and not _lacks(each, mismatches, full=full)) for each in listings
    ]


def of_one_text(listings: Iterable[Mtrrs], differences: Collection[int]) -> list[Mtrrs]:
    """The listings, of which those aren't complete that are in the difference of two.

    :param listings: The listings of a text.
    :param differences: The numbers of lines that show a difference.
    """
    return [
        replace(each, complete=each.complete and not any(line in differences for line in each.lines))
        for each in listings
    ]


def of_whole_lines(listings: Iterable[Mtrrs], cursor: Cursor) -> list[Mtrrs]:
    """The listings, of which those aren't complete that have several registers on one line.

    What prints them has a line for each, and is read so; but for ``/proc/mtrr``, of which all are read.

    :param listings: The listings of a text.
    :param cursor: The text.
    """
    listings = list(listings)
    used = {number for each in listings if each.source != "/proc/mtrr" for number in each.lines}
    several = {row.number for row in cursor.rows if row.number in used and _has_several(row.message)}
    return [
        replace(
            each,
            complete=each.complete and (each.source == "/proc/mtrr" or several.isdisjoint(each.lines)),
        )
        for each in listings
    ]


def _has_several(message: str) -> bool:
    return next(islice(_REGISTERS.finditer(message), 1, None), None) is not None


def _lacks(listing: Mtrrs, mismatches: Sequence[Complaint], *, full: bool) -> bool:
    if listing.source == "mtrr=debug":
        # print_mtrr_state() (generic.c) has a line of each register, "disabled" if it holds nothing.
        return not _all_numbers(listing)
    if listing.source == "/proc/mtrr":
        # mtrr_seq_show() (if.c) leaves out those that hold nothing. Firmware begins with the first.
        begins = min((each.number for each in listing.variable), default=0) == 0
        if not begins or (full and not _all_numbers(listing)):
            return True
        return any(_contradicts(each, listing) for each in mismatches)
    return False


def _all_numbers(listing: Mtrrs) -> bool:
    numbers = sorted([*(each.number for each in listing.variable), *listing.unused])
    return numbers == list(range(len(numbers)))


def _contradicts(mismatch: Complaint, listing: Mtrrs) -> bool:
    """Whether a message speaks of a register that isn't listed: the range lies in one of another type."""
    span, held = mismatch.span, mismatch.held
    if span is None or not held:
        return False
    return not any(
        each.memtype is held[0] and each.size and each.base <= span.start and span.end < each.base + each.size
        for each in listing.variable
    )
