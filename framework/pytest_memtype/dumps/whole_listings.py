"""Whether a listing of MTRRs is all of it, by its registers' numbers and what the kernel says of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from pytest_memtype.dumps.facts import Complaint, Kind, Mtrrs

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
