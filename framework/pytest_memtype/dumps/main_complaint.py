"""The complaint of a report that counts: what its reader wants explained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pytest_memtype.dumps.facts import Complaint, Kind
from pytest_memtype.dumps.worded_warnings import HARMLESS, WORDS

MEMORY: Final = frozenset(
    {
        Kind.CONFLICTING_TYPES,
        Kind.RESERVE_FAILED,
        Kind.RAM_RESERVE_FAILED,
        Kind.FREEING_INVALID,
        Kind.USER_REFUSED,
        Kind.USER_RAM,
        Kind.DEVMEM_TYPE,
        Kind.IOREMAP_REFUSED,
        Kind.IOREMAP_FAILED,
        Kind.IOREMAP_ON_RAM,
        Kind.IOREMAP_BEYOND,
        Kind.MEMREMAP_ON_RAM,
        Kind.MEMREMAP_MIXED,
        Kind.CHANGE_FAILED,
        Kind.DEVMEM_REFUSED,
        Kind.WARNING,
        Kind.BUG,
    }
)
"""About memory that somebody wanted to map; of several the first in the text counts."""

#: About registers, or about what may be no trouble at all.
_REGISTERS: Final = (
    frozenset(
        {
            Kind.MTRR_MISMATCH,
            Kind.MTRR_OVERLAP,
            Kind.MTRR_FULL,
            Kind.MTRR_UNALIGNED,
            Kind.MTRR_REFUSED,
            Kind.MTRR_NO_WC,
        }
    ),
    frozenset({Kind.MTRR_CLEANUP_FAILED}),
    frozenset({Kind.MTRR_WC_FAILED, Kind.MTRR_LOSES_RAM, Kind.MTRR_BAD_MASK}),
    frozenset({Kind.SANITY}),
    frozenset({Kind.FWTS}),
    frozenset({Kind.MTRR_INCONSISTENT}),
    frozenset({Kind.PAT_SKIPPED, Kind.MTRR_OFF}),
    # What follows where they are off.
    frozenset({Kind.MTRR_BLANK}),
    frozenset({Kind.PAT_ABSENT, Kind.PAT_DISABLED}),
    frozenset({Kind.HUGE_PAGE, Kind.CPA, Kind.MTRR_CLEANED, Kind.MTRR_MODIFIABLE}),
    # It may have been refused when it was asked for, above what the text shows.
    frozenset({Kind.MTRR_NOT_REMOVED}),
)


def main_complaint(complaints: Sequence[Complaint]) -> Complaint | None:
    """The complaint that counts; None where there is none.

    :param complaints: Those of a text, in its order.
    """
    memory = [
        each
        for each in complaints
        if each.kind in MEMORY and not (each.function or "").startswith(("mtrr_", "generic_"))
    ]
    # The others say what the kernel did, a WARNING only where.
    worded = [each for each in memory if each.kind is not Kind.WARNING]
    # What others warn of weighs more than what ioremap() refuses or lets pass.
    memory.sort(key=lambda each: each.function in HARMLESS)
    if memory and not worded:
        words = WORDS.get(memory[0].function or "", frozenset())
        worded = [each for each in complaints if each.kind in words][:1]
    with_range = [each for each in worded if each.span is not None]
    for group in (with_range, worded, memory):
        if group:
            return group[0]
    for kinds in _REGISTERS:
        found = [each for each in complaints if each.kind in kinds]
        if found:
            return next((each for each in found if each.span is not None), found[0])
    return next((each for each in complaints if each.kind is Kind.WARNING), None)
