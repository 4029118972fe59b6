"""The messages of a report that can be made again, sorted by what makes a kernel say them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pytest_memtype.dumps.facts import Complaint, Dump, Entry, Kind, Span
from pytest_memtype.explain.process_bugs import FIRST_PAGE
from pytest_memtype.spec.linux_messages import Event, Message
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.pte import PageSize

_EVENTS = {each.name: each for each in Event}

REQUESTS = frozenset({Kind.MTRR_MISMATCH, Kind.MTRR_OVERLAP, Kind.MTRR_FULL, Kind.MTRR_UNALIGNED})
"""Messages of ``mtrr_add_page()``: a register was asked for."""

BOOT = frozenset(
    {
        Kind.MTRR_INCONSISTENT,
        Kind.MTRR_CLEANUP_FAILED,
        Kind.MTRR_CLEANED,
        Kind.MTRR_LOSES_RAM,
        Kind.MTRR_BLANK,
        Kind.MTRR_OFF,
        Kind.PAT_SKIPPED,
        Kind.PAT_ABSENT,
        Kind.PAT_DISABLED,
    }
)
"""Messages of the boot, which come from registers, CPU and command line alone."""

_REST = frozenset({Kind.MTRR_WC_FAILED})
"""Words of drivers' about what the kernel said before."""

# No guest's firmware leaves the PAT at 0, no kernel that can be had is built without it, and none is so old
# that it doesn't trust a CPU with it.
_OF_OTHERS: Final = re.compile(
    r"\bPAT (?:support disabled (?:by the firmware|because)|WC disabled|disabled\. Not yet)", re.I
)

_MOST_DISTINCT: Final = 1000
"""Different messages of a report that are looked at: whether their ranges touch is asked of each pair."""

RAM = frozenset(
    {
        Event.RAM_RESERVE_FAILED,
        Event.UNCACHED_RAM,
        Event.USER_RAM,
        Event.IOREMAP_ON_RAM,
        Event.MEMREMAP_ON_RAM,
    }
)
"""Messages about RAM alone."""


@dataclass(frozen=True)
class PageLines:
    """Messages about one range of memory, and what belongs to it.

    :param complaints: The messages.
    :param messages: The same as the model says them, with addresses for page frames.
    """

    complaints: tuple[Complaint, ...]
    messages: tuple[Message, ...]

    @property
    def extent(self) -> tuple[int, int] | None:
        """The first address of all ranges, and the one behind the last; None where no message has a range."""
        spans = [(each.first, each.end) for each in self.messages if each.first is not None]
        if not spans:
            return None
        return min(first for first, _ in spans), max(end for _, end in spans if end is not None)

    @property
    def edges(self) -> tuple[int, ...]:
        """The addresses where a range begins or ends, ascending."""
        return tuple(
            sorted({edge for each in self.messages for edge in (each.first, each.end) if edge is not None})
        )

    @property
    def types(self) -> tuple[MemType, ...]:
        """The types that the messages name, and those that everybody asks for."""
        named = [memtype for each in self.messages for memtype in (*each.held, each.asked)]
        if any(each.event is Event.MEMREMAP_ON_RAM for each in self.messages):
            # It says no type, and WB of RAM is granted.
            named += [MemType.WC, MemType.WT]
        known = [each for each in named if each is not None]
        # Everybody asks for UC-; and for WB, where nothing is known.
        usual = [MemType.UC_MINUS] if known else [MemType.UC_MINUS, MemType.WB]
        return tuple(dict.fromkeys([*known, *usual]))


@dataclass(frozen=True)
class Wanted:
    """The messages that are to be made again.

    :param pages: Messages about memory, one for each range of it.
    :param large: Messages about large pages over several MTRR types.
    :param requests: Messages about registers that were asked for.
    :param boot: Messages of the boot.
    :param entries: Lines of ``pat_memtype_list`` that are due to how the machine booted.
    :param unknown: Messages that the model has no way to.
    :param verbs: The operations that the writer names.
    :param private: Does he say that a mapping was private?
    :param fork_fails: Does he say that a fork failed?
    """

    pages: tuple[PageLines, ...]
    large: tuple[Complaint, ...]
    requests: tuple[Complaint, ...]
    boot: tuple[Complaint, ...]
    entries: tuple[Entry, ...]
    unknown: tuple[Complaint, ...]
    verbs: frozenset[str]
    private: bool
    fork_fails: bool

    @property
    def tells(self) -> bool:
        """Does the writer say anything of what was done?"""
        return bool(self.verbs) or self.private or self.fork_fails

    @property
    def complaints(self) -> tuple[Complaint, ...]:
        """The messages that decide: of the boot only where there are no others."""
        asked = (*(each for lines in self.pages for each in lines.complaints), *self.large, *self.requests)
        return asked or self.boot


def wanted(dump: Dump) -> Wanted:
    """Find what of a report can be made again: of its own machine, where a text shows several.

    :param dump: The report.
    """
    known: list[tuple[Complaint, Message]] = []
    distinct: set[Message] = set()
    unknown = []
    for each in dump.own:
        if _OF_OTHERS.search(each.raw):
            unknown.append(each)
            continue
        if each.kind in REQUESTS | BOOT | _REST or _is_of_large_page(each):
            continue
        message = _message(each)
        if message is None or (message not in distinct and len(distinct) >= _MOST_DISTINCT):
            unknown.append(each)
        else:
            distinct.add(message)
            known.append((each, message))
    # A WARN with words of its own is two to the reader: the words, and the function.
    named = any(message.event in (Event.IOREMAP_ON_RAM, Event.MEMREMAP_ON_RAM) for _, message in known)
    if named:
        unknown = [each for each in unknown if each.kind is not Kind.WARNING]
    boot = tuple(each for each in dump.own if each.kind in BOOT and each not in unknown)
    return Wanted(
        pages=tuple(_clusters(known)),
        large=tuple(each for each in dump.own if _is_of_large_page(each)),
        requests=tuple(each for each in dump.own if each.kind in REQUESTS),
        boot=boot,
        entries=_odd_entries(dump) if boot and not known else (),
        unknown=tuple(unknown),
        verbs=frozenset(_verbs(dump)),
        private="map_private" in {call.lower() for call in dump.user_calls},
        fork_fails=any(_FAILED_FORK.search(line.text) for line in dump.prose),
    )


def _is_of_large_page(complaint: Complaint) -> bool:
    """Whether it is about a large page, and which: ``pmd_set_huge()`` alone says so, once a boot."""
    span = complaint.span
    return (
        complaint.kind is Kind.HUGE_PAGE
        and span is not None
        and span.size == PageSize.SIZE_2M
        and not span.start % PageSize.SIZE_2M
    )


def _message(complaint: Complaint) -> Message | None:
    """A message as the model says it, in addresses; None if the model doesn't."""
    if complaint.kind is Kind.WARNING:
        return Message(Event.NO_FIRST_PAGE) if complaint.function in FIRST_PAGE else None
    event = _EVENTS.get(complaint.kind.name)
    # EINVAL comes from ranges that no caller should have.
    if event is None or (event is Event.IOREMAP_FAILED and complaint.errno not in (None, 16)):
        return None
    if event is Event.IOREMAP_FAILED:
        return Message(event)
    if complaint.span is None:
        return None
    held = complaint.held or (() if complaint.granted is None else (complaint.granted,))
    if event is Event.RESERVE_FAILED:
        held = () if complaint.granted is None else (complaint.granted,)
    start, end = _whole_pages(complaint.span)
    return Message(event, start, end, complaint.asked, held)


def _whole_pages(span: Span) -> tuple[int, int]:
    return span.start & ~0xFFF, (span.end | 0xFFF) + 1


def _clusters(known: Sequence[tuple[Complaint, Message]]) -> Iterable[PageLines]:
    """The messages by range; those without one belong to the one before, or to the first."""
    # Of what is said again the first complaint counts. A log may say one thing ten thousand times.
    groups: list[dict[Message, Complaint]] = []
    home: dict[Message, dict[Message, Complaint]] = {}
    waiting: dict[Message, Complaint] = {}
    last: dict[Message, Complaint] | None = None
    for complaint, message in known:
        if message.first is None or message.end is None:
            (waiting if last is None else last).setdefault(message, complaint)
            continue
        if message in home:
            last = home[message]
            continue
        near = [group for group in groups if any(_touch(message, other) for other in group)]
        last = waiting
        for group in near:
            last.update((key, value) for key, value in group.items() if key not in last)
        last.setdefault(message, complaint)
        waiting = {}
        groups = [group for group in groups if not any(group is each for each in near)] + [last]
        home |= dict.fromkeys(last, last)
    if waiting:
        groups.append(waiting)
    for group in groups:
        yield PageLines(tuple(group.values()), tuple(group))


def _touch(one: Message, other: Message) -> bool:
    if one.first is None or one.end is None or other.first is None or other.end is None:
        return False
    return one.first < other.end and other.first < one.end


def _odd_entries(dump: Dump) -> tuple[Entry, ...]:
    """Reservations that a machine whose MTRRs are off has another type for than was asked for."""
    return tuple(each for each in dump.entries if each.memtype is MemType.UC_MINUS)[:1]


_FAILED_FORK = re.compile(r"\bfork\b.{0,40}\b(?:cannot allocate memory|enomem|fail)", re.I)

_CALLS = frozenset({"fork", "munmap", "mprotect", "mremap"})

_FUNCTIONS = {
    "copy_page_range": "fork",
    "dup_mmap": "fork",
    "dup_mm": "fork",
    "copy_process": "fork",
    "move_vma": "mremap",
    "mprotect_fixup": "mprotect",
}
"""Functions of the kernel that only one operation comes through."""


def _verbs(dump: Dump) -> Iterable[str]:
    """The operations that the writer names, and those in the traces."""
    yield from (call for call in map(str.lower, dump.user_calls) if call in _CALLS)
    for each in dump.own:
        yield from (_FUNCTIONS[name] for name in each.trace if name in _FUNCTIONS)
