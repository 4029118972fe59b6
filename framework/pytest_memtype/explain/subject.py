"""The subject of a report: the complaint that counts, the memory, the types asked for, held and given."""

from __future__ import annotations

import itertools
import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import Final

from pytest_memtype.dumps.facts import Complaint, Dump, Entry, Kind, Span
from pytest_memtype.dumps.main_complaint import MEMORY, main_complaint
from pytest_memtype.dumps.words import is_denied
from pytest_memtype.explain.event import is_of_one_event
from pytest_memtype.x86.memtype import MemType

# Callers that take no other type than theirs: their name is why the first of two conflicting types is theirs.
_STRICT: Final = re.compile(r"\bset_memory_\w+|\bset_mce_nospec|\bset_pages_\w+|\bmemory.failure\b", re.I)
_PAGE_SHIFT: Final = 12
_LENIENT: Final = re.compile(r"\bmmap\b|\bioremap(?:_\w+)?\b", re.I)
_ADDRESS: Final = re.compile(
    r"(?<![\w.:-])(?:0x([0-9a-f]{5,16})|(?=[0-9a-f]*[0-9])(?=\w*[a-f])([0-9a-f]{8}))(?![\w:])", re.I
)


@dataclass(frozen=True)
class Subject:
    """The subject of a report.

    :param main: The complaint that counts; None where there is none.
    :param span: The memory; None where the text names none.
    :param held: The types that it had.
    :param asked: The type that was asked for.
    :param granted: The type that was given.
    :param entries: The reservations that the text lists of that memory.
    :param strict: Whether the request took no other type than its own, as far as the text says.
    """

    main: Complaint | None
    span: Span | None = None
    held: tuple[MemType, ...] = ()
    asked: MemType | None = None
    granted: MemType | None = None
    entries: tuple[Entry, ...] = ()
    strict: bool = False


def subject(dump: Dump) -> Subject:
    """Find the subject of a report."""
    main = main_complaint(dump.complaints)
    if main is None and any(_is_another(each) for each in dump.made):
        # The list shows what was given, and no more what was asked for.
        return _made(dump)
    if main is None or (main.span is None and main.kind not in MEMORY):
        found = _of_list(dump, main)
        if found is not None:
            return found
    if main is None:
        return _made(dump)
    together = sorted(
        (each for each in dump.of(*MEMORY) if each.span == main.span),
        # What belongs to a line stands below it, and right there.
        key=lambda each: (each.line < main.line, abs(each.line - main.line)),
    )
    if main.kind is Kind.MTRR_FULL:
        # That line has no range; what the driver says of it has.
        wishes = {(each.span, each.asked) for each in dump.of(Kind.MTRR_WC_FAILED) if each.span is not None}
        if len(wishes) == 1:
            span, wish = wishes.pop()
            return Subject(main, span, asked=wish)
    together = [each for each in together if not _is_of_other_process(dump, main, each)]
    asked = next((each.asked for each in (main, *together) if each.asked is not None), None)
    held = main.held or next((each.held for each in together if each.held), ())
    strict = False
    if (
        main.kind is Kind.CONFLICTING_TYPES
        and len(held) == 2
        and _is_strict(dump, main)
        and asked in (None, held[0])
    ):
        asked, held, strict = held[0], held[1:], True
    entries = tuple(each for each in dump.entries if main.span is not None and each.span.overlaps(main.span))
    granted = main.granted if main.kind is Kind.USER_RAM else None
    return Subject(main, main.span, tuple(held), asked, granted, entries, strict)


def _is_of_other_process(dump: Dump, main: Complaint, other: Complaint) -> bool:
    """Whether a complaint about the same memory is of another process's request, by its name or its place.

    "memtype_reserve failed" names no process: it is of the one that the line above it names, a conflict.

    :param dump: What was read of the report.
    :param main: The complaint that counts.
    :param other: The other one.
    """
    if other.pid is not None or main.pid is None:
        return other.pid is not None and main.pid is not None and other.pid != main.pid
    line = next((each for each in (other.line, *other.lines) if each > main.line), other.line)
    return any(
        each.pid not in (None, main.pid) and main.line < each.line < line
        for each in dump.of(Kind.CONFLICTING_TYPES)
    )


def _made(dump: Dump) -> Subject:
    """Choose what debugpat's lines are about: the first request that got another type, else the only one."""
    found = next(filter(_is_another, dump.made), None)
    if found is None and len({(each.span, each.asked, each.granted) for each in dump.made}) == 1:
        found = dump.made[0]
    if found is None or found.span is None:
        return Subject(None)
    entries = tuple(each for each in dump.entries if each.span.overlaps(found.span))
    return Subject(found, found.span, found.held, found.asked, found.granted, entries)


def _is_another(made: Complaint) -> bool:
    """Whether a request got another type than it asked for."""
    return made.span is not None and made.asked is not None and made.granted not in (None, made.asked)


def says(words: str, pattern: str | re.Pattern[str]) -> bool:
    """Whether somebody says something, and not that it wasn't so.

    :param words: The words.
    :param pattern: An expression of what is said, in which case doesn't matter.
    """
    return any(
        not is_denied(words, each.start())
        for each in re.finditer(pattern, words, 0 if isinstance(pattern, re.Pattern) else re.I)
    )


def _is_strict(dump: Dump, main: Complaint) -> bool:
    """Whether a request takes no other type, by its stack, or else by words that speak of nothing else."""
    event = (each for each in dump.complaints if not each.aside and is_of_one_event(main, each))
    traces = " ".join(function for each in event for function in each.trace)
    if main.span is not None and main.span.start >> _PAGE_SHIFT in dump.poisoned:
        # set_mce_nospec() asks for uncached and nothing else.
        return True
    return says(traces, _STRICT) or (says_strict(dump) and not says_lenient(dump))


def says_strict(dump: Dump) -> bool:
    """Whether the text's words name functions that take no other type than theirs."""
    return any(says(each.text, _STRICT) for each in (*dump.prose, *dump.unread))


def says_lenient(dump: Dump) -> bool:
    """Whether the text's words name functions that take a type which is there already: mmap(), ioremap()."""
    return any(
        says(text, _LENIENT) for text in (*(each.text for each in dump.prose), dump.command_line or "")
    )


def _of_list(dump: Dump, main: Complaint | None) -> Subject | None:
    """The reservation that the writer asks about: by its address, or because it is the only one."""
    address = _first_listed(dump)
    if address is not None:
        return _listed(
            main, tuple(each for each in dump.entries if each.span.start <= address <= each.span.end)
        )
    if len({(each.span, each.memtype) for each in dump.entries}) == 1:
        return _listed(main, dump.entries)
    return None


def _first_listed(dump: Dump) -> int | None:
    """The first address of the writer's that the list of reservations has; both may be long."""
    spans = sorted((each.span.start, each.span.end) for each in dump.entries)
    starts = [start for start, _ in spans]
    furthest = list(itertools.accumulate((end for _, end in spans), max))
    for line in dump.prose:
        for match in _ADDRESS.finditer(line.text):
            address = int(match[1] or match[2], 16)
            below = bisect_right(starts, address)
            if below and address <= furthest[below - 1]:
                return address
    return None


def _listed(main: Complaint | None, entries: tuple[Entry, ...]) -> Subject:
    types = {each.memtype for each in entries}
    widest = max((each.span for each in entries), key=lambda each: each.size)
    granted = next(iter(types)) if len(types) == 1 else None
    return Subject(main, widest, granted=granted, entries=entries)
