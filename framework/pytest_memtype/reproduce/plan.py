"""From what is wanted to what has to be done: a machine, and the shortest sequence of operations on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from pytest_memtype.dumps.facts import Complaint, Dump, Entry
from pytest_memtype.reproduce.play import Machine
from pytest_memtype.reproduce.requests import Request, requests_for
from pytest_memtype.reproduce.search import Budget, Goal, search
from pytest_memtype.reproduce.setting import DEVICE, PAGE, Setting, of_two_types, settings
from pytest_memtype.reproduce.step import Board, Step
from pytest_memtype.reproduce.wanted import PageLines, Wanted
from pytest_memtype.spec.linux_messages import Message
from pytest_memtype.spec.linux_versions import Version
from pytest_memtype.x86.memtype import MemType

MOST_PARTS: Final = 6
"""Ranges of one report that are made again; each may want a guest of its own."""

_MOST_MESSAGES: Final = 24
"""Messages about one range of memory: no sequence that is looked for says more, and each cuts it further."""

_ROUNDS: Final = ((False, 800), (False, 6_000), (True, 400), (True, 3_000), (True, 12_000))
"""Whether mappings may also end and change, and the scenes that are looked at for each machine and board."""

_MOST_SCENES: Final = 60_000
"""Scenes that are looked at for a report on one kernel, some seconds of work."""


@dataclass(frozen=True)
class Part:
    """Messages that are made again in one guest.

    :param complaints: The messages.
    :param setting: The machine.
    :param board: The memory that the steps are about, in the guest's addresses; None without steps.
    :param steps: Operations on it.
    :param requests: Registers that are asked for.
    :param entries: Reservations that there shall be in the end.
    """

    complaints: tuple[Complaint, ...]
    setting: Setting
    board: Board | None = None
    steps: tuple[Step, ...] = ()
    requests: tuple[Request, ...] = ()
    entries: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The work that has to be done for a report.

    :param parts: One for each range of memory, or one for the boot.
    :param stuck: Messages that no sequence leads to.
    """

    parts: tuple[Part, ...]
    stuck: tuple[Complaint, ...]


def plan(wanted: Wanted, dump: Dump, version: Version) -> Plan:
    """Find out what has to be done for a report with a kernel of some version."""
    parts: list[Part] = []
    stuck: list[Complaint] = [*wanted.unknown]
    budget = Budget(_MOST_SCENES)
    for lines in wanted.pages[:MOST_PARTS]:
        found = None
        if len(lines.messages) <= _MOST_MESSAGES:
            found = _pages(lines, wanted, dump, version, budget)
        if found is None:
            stuck += lines.complaints
        else:
            parts.append(found)
    for lines in wanted.pages[MOST_PARTS:]:
        stuck += lines.complaints
    for complaint in wanted.large[:MOST_PARTS]:
        large = _large(complaint, dump)
        if large is None:
            stuck.append(complaint)
        else:
            parts.append(large)
    stuck += wanted.large[MOST_PARTS:]
    if wanted.requests:
        setting = next(settings(dump, None))
        asked, left = requests_for(wanted.requests, setting)
        stuck += left
        if asked:
            made = tuple(each for each in wanted.requests if each not in left)
            parts.append(Part(made, setting, requests=asked))
    if wanted.boot:
        parts = _with_boot(parts, wanted, dump)
    return Plan(tuple(parts), tuple(stuck))


def _large(complaint: Complaint, dump: Dump) -> Part | None:
    """A large page over memory of two types, which the kernel makes small pages of, and says so."""
    assert complaint.span is not None
    setting = of_two_types(dump, complaint.span.start, complaint.span.end + 1)
    if setting is None:
        return None
    start = complaint.span.start + setting.offset
    board = setting.board((start, start + complaint.span.size))
    return Part((complaint,), setting, board, (Step("ioremap", 0, 1, MemType.UC_MINUS),))


def _with_boot(parts: list[Part], wanted: Wanted, dump: Dump) -> list[Part]:
    """The parts, the first of which also has the messages of the boot."""
    # A large page's machine is made for that alone.
    if parts and parts[0].setting.doubt == 0 and not set(parts[0].complaints) & set(wanted.large):
        first = parts[0]
        both = (*wanted.boot, *first.complaints)
        return [Part(both, first.setting, first.board, first.steps, first.requests), *parts[1:]]
    setting = next(settings(dump, None))
    boot = Part(wanted.boot, setting, entries=wanted.entries)
    if wanted.entries:
        # Who asks for less than WB has what he asked for on every machine.
        span = wanted.entries[0].span
        board = setting.board((span.start, span.end + 1))
        step = Step("memremap", 0, 1, MemType.WB)
        boot = Part(wanted.boot, setting, board, (step,), entries=wanted.entries)
    return [boot, *parts]


def _pages(lines: PageLines, wanted: Wanted, dump: Dump, version: Version, budget: Budget) -> Part | None:
    """The first machine, and the fewest steps on it, that lead to some messages."""
    tried = list(settings(dump, lines))
    doubts = sorted({each.doubt for each in tried})
    if wanted.tells:
        likely = [each for each in tried if each.doubt == doubts[0]]
        for changing, scenes in _ROUNDS:
            found = _search(
                lines, wanted, likely, version, only=True, changing=changing, scenes=scenes, budget=budget
            )
            if found is not None:
                return found
    for changing, scenes in _ROUNDS:
        # These lines alone, or with others that the report may lack.
        for only in (True, False):
            for doubt in doubts:
                likely = [each for each in tried if each.doubt == doubt]
                found = _search(
                    lines, None, likely, version, only=only, changing=changing, scenes=scenes, budget=budget
                )
                if found is not None:
                    return found
    return None


def _search(
    lines: PageLines,
    told: Wanted | None,
    likely: Sequence[Setting],
    version: Version,
    *,
    only: bool,
    changing: bool,
    scenes: int,
    budget: Budget,
) -> Part | None:
    for setting in likely:
        if budget.scenes <= 0:
            return None
        for edges in _cuts(lines, setting):
            board = setting.board(edges)
            if not any((*board.ram, *board.write_back)) and any(
                MemType.WB in each.held for each in lines.messages
            ):
                # Where the MTRRs don't say write-back, nothing is ever held so (pat_x_mtrr_type()).
                continue
            goal = Goal(
                tuple(_in_cells(each, board, setting.offset) for each in lines.messages),
                verbs=told.verbs if told else frozenset(),
                private=told.private if told else False,
                fork_fails=told.fork_fails if told else False,
                types=lines.types,
                only=only,
            )
            machine = Machine(version, setting.has_mtrr, setting.pat)
            own = Budget(min(scenes, budget.scenes))
            before = own.scenes
            steps = search(goal, board, machine, budget=own, changing=changing)
            budget.scenes -= before - own.scenes
            if steps is not None:
                return Part(lines.complaints, setting, board, steps)
    return None


def _cuts(lines: PageLines, setting: Setting) -> Iterator[tuple[int, ...]]:
    """The addresses to cut memory at: where ranges begin and end, and a page beside; then also within."""
    edges = [edge + setting.offset for edge in lines.edges]
    if not edges:
        # Messages that name no range: four pages where a guest has device memory.
        edges = [DEVICE[0], DEVICE[0] + 4 * PAGE]
    around = (edges[0] - PAGE, *edges, edges[-1] + PAGE)
    yield around
    # A page at each end is enough to hold a type, and costs less than half of many gigabytes.
    inside = [
        cut for start, end in pairwise(edges) for cut in (start + PAGE, end - PAGE) if start < cut < end
    ]
    if inside:
        yield tuple(sorted({*around, *inside}))


def _in_cells(message: Message, board: Board, offset: int) -> Message:
    if message.first is None or message.end is None:
        return message
    cells = board.cells_of(message.first + offset, message.end + offset)
    assert cells is not None
    return Message(message.event, *cells, message.asked, message.held)
