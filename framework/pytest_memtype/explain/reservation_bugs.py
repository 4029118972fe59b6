"""Rules on known bugs of requests for memory that has a type already, and of what is freed."""

from __future__ import annotations

from collections.abc import Set
from typing import Final

from pytest_memtype.dumps.facts import Complaint, Dump, Kind, Span
from pytest_memtype.explain.bug_case import BugCase, Hit, Rule
from pytest_memtype.explain.subject import Subject, says_lenient, says_strict
from pytest_memtype.x86.memtype import MemType

#: The pairs (asked for, held) that is_new_memtype_allowed() refuses (arch/x86/include/asm/pgtable.h).
REFUSED_PAIRS: Final = frozenset(
    {
        (MemType.UC_MINUS, MemType.WB),
        (MemType.WC, MemType.WB),
        (MemType.WT, MemType.WB),
        (MemType.WT, MemType.WC),
    }
)


def surely_mixed(dump: Dump, about: Subject, conflict: Complaint) -> bool:
    """Whether the two types of a conflict are both held, and the first of them isn't the request's.

    Whoever takes no other type than his own has that named first (memtype_check_conflict()). Neither
    ioremap() nor mmap() is such a caller.

    :param dump: What was read of the report.
    :param about: What it is about.
    :param conflict: The line that names the two.
    """
    return (
        about.asked not in (None, conflict.held[0])
        or any(each.span == conflict.span for each in dump.of(Kind.IOREMAP_FAILED))
        or (says_lenient(dump) and not says_strict(dump))
    )


def _mixed_overlap(case: BugCase) -> Hit | None:
    found = case.kind(Kind.CONFLICTING_TYPES)
    if found is None or case.about.strict or len(found.held) != 2:
        return None
    certain = surely_mixed(case.dump, case.about, found)
    return Hit(
        f"the range has pieces of two types, {found.held[0]} and {found.held[1]}"
        + ("" if certain else ", unless the first is what was asked for"),
        sequence=certain,
        alone=False,
    )


def _wb_first(case: BugCase) -> Hit | None:
    for each in case.of(Kind.IOREMAP_REFUSED, Kind.USER_REFUSED):
        if each.held == (MemType.WB,) and (each.asked, MemType.WB) in REFUSED_PAIRS:
            return Hit(f"{each.asked} was asked for memory that is mapped write-back already")
    return None


def _ram_other_type(case: BugCase) -> Hit | None:
    found = case.kind(Kind.USER_RAM)
    if found is None or found.asked is None:
        return None
    return Hit(
        f"a process's mapping of RAM was asked for as {found.asked}, and RAM keeps the type that it has"
    )


def _ram_not_counted(case: BugCase) -> Hit | None:
    found = case.kind(Kind.RAM_RESERVE_FAILED)
    if found is None:
        return None
    return Hit("a page of the RAM isn't write-back any more, so it is somebody's already")


def _ioremap_ram(case: BugCase) -> Hit | None:
    found = case.kind(Kind.IOREMAP_ON_RAM)
    return None if found is None else Hit("the kernel says that the memory is RAM")


def _is_physical(complaint: Complaint) -> bool:
    """Whether the range can be physical: 2.6.31 printed some addresses with their sign extended."""
    return complaint.span is not None and complaint.span.end >> 52 == 0


def freed_after_refusal(dump: Dump) -> list[Complaint]:
    """Lines that free what was asked for and refused further above: it isn't reserved, as nobody got it.

    A mapping that was refused is taken down by who asked for it (remap_pfn_range(), mmap_region()), whom
    "conflicting memory types" names, and "reserve_memtype failed" never.

    :param dump: What was read of the report.
    """
    refused: dict[Span, set[int]] = {}
    found = []
    lines = dump.of(Kind.RESERVE_FAILED, Kind.CONFLICTING_TYPES, Kind.FREEING_INVALID)
    for each in sorted(lines, key=lambda each: each.line):
        if each.span is None:
            continue
        if each.kind is Kind.FREEING_INVALID:
            if each.span in refused and _may_be(each, refused[each.span]):
                found.append(each)
            continue
        pids = refused.setdefault(each.span, set())
        if each.pid is not None:
            pids.add(each.pid)
    return found


def _may_be(freed: Complaint, pids: Set[int]) -> bool:
    """Whether a process may be one of those that were refused, as far as the lines name processes."""
    return freed.pid is None or not pids or freed.pid in pids


def freed_unexplained(case: BugCase) -> Complaint | None:
    """A range that was freed and isn't reserved, for a reason that the text doesn't give."""
    explained = {each.line for each in freed_after_refusal(case.dump)}
    freed = (each for each in case.of(Kind.FREEING_INVALID) if each.line not in explained)
    return next(filter(_is_physical, freed), None)


RESERVATION_RULES: Final[dict[str, Rule]] = {
    "ioremap-ram": _ioremap_ram,
    "mixed-overlap": _mixed_overlap,
    "ram-not-counted": _ram_not_counted,
    "ram-other-type": _ram_other_type,
    "wb-first": _wb_first,
}
