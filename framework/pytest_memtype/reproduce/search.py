"""The search, in the model of Linux, for the shortest sequence of steps that makes the kernel say something.

It goes from the messages back to the verbs, types and cells that steps may have, then through the model,
breadth first. No step is taken that makes the kernel say what isn't wanted.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from pytest_memtype.reproduce.play import FIRST_PFN, Machine, Scene, played
from pytest_memtype.reproduce.step import Board, Step
from pytest_memtype.spec.linux_messages import Event, Message
from pytest_memtype.x86.memtype import MemType

DEEPEST = 6
"""The longest sequence that is looked for."""


@dataclass
class Budget:
    """How many scenes may still be looked at: ten thousand take a second.

    They are counted, and not timed, so that every host finds the same.
    """

    scenes: int


_WARNINGS = (Event.NO_FIRST_PAGE, Event.UNCACHED_RAM)
"""What may be said beside what is wanted: people cut them off, and a kernel gives them once a boot."""


@dataclass(frozen=True)
class Goal:
    """The messages that the kernel shall say, and what is known of the way to them.

    :param messages: The messages, in cells of the board (``first`` and ``end``). What one of them leaves out
        may be anything.
    :param verbs: Verbs that the steps shall have among them.
    :param private: Shall one of the mappings be private?
    :param fork_fails: Shall a fork fail?
    :param types: The types that steps may ask for.
    :param only: Shall the kernel say nothing else?
    """

    messages: tuple[Message, ...]
    verbs: frozenset[str] = frozenset()
    private: bool = False
    fork_fails: bool = False
    types: tuple[MemType, ...] = ()
    only: bool = True


@dataclass(frozen=True)
class _Alphabet:
    """The verbs that steps are made of.

    :param maps: Of the steps that map.
    :param changes: Of those that change a mapping, or a process.
    """

    maps: tuple[str, ...]
    changes: tuple[str, ...] = ()
    private: bool = False

    @property
    def changing(self) -> bool:
        """May mappings end, shrink, split or move?"""
        return bool({*self.changes} - {"fork"})


_LIFE = ("munmap", "mprotect", "mremap", "write", "exit", "fork", "fork_without_memory")

_ALPHABETS = (
    _Alphabet(("ioremap",)),
    _Alphabet(("mmap",)),
    _Alphabet(("ioremap", "mmap")),
    _Alphabet(("ioremap", "mmap"), ("fork",)),
    _Alphabet(("memremap", "ioremap")),
    _Alphabet(("set_memory", "mmap")),
    _Alphabet(("mmap",), _LIFE, private=True),
    _Alphabet(("ioremap", "mmap", "reserve_wc"), ("release", "munmap", "exit")),
)
"""From drivers alone and processes alone, which most reports are of, to both."""


def search(
    goal: Goal, board: Board, machine: Machine, *, budget: Budget, changing: bool = True
) -> tuple[Step, ...] | None:
    """The shortest steps after which the model of Linux has said all that is wanted.

    :param goal: What is wanted, in cells of the board.
    :param board: The memory.
    :param machine: The machine.
    :param budget: What it may cost, and is left of that afterwards.
    :param changing: May mappings also end, shrink, split and move? That has many more ways.
    :returns: The steps; None where there are none, or the budget doesn't last.
    """
    fronts = [
        _Front(goal, board, machine, each)
        for each in _ALPHABETS
        if (changing or not each.changing) and _can_lead_to(goal, each, board)
    ]
    for _ in range(DEEPEST):
        for front in fronts:
            found = front.deeper(budget)
            if found is not None:
                return found
    return None


def _can_lead_to(goal: Goal, alphabet: _Alphabet, board: Board) -> bool:
    """Whether some verbs have what a goal asks for, and call every function that logs its messages."""
    verbs = {*alphabet.maps, *alphabet.changes}
    if not goal.verbs <= verbs or goal.private > alphabet.private:
        return False
    # Only RAM has a direct map to change; and of device memory memremap() is ioremap().
    if not any(board.ram) and {"set_memory", "memremap"} & verbs:
        return False
    if alphabet.changes == ("fork",):
        # A fork alone changes nothing that others find, and logs little.
        return "fork" in goal.verbs or any("fork" in _logged_by(each, goal, ()) for each in goal.messages)
    if not alphabet.changes and len(alphabet.maps) > 1 and not any(board.ram):
        # Where one verb can say all, another is no help: its reservations are the same.
        return not any(
            all(verb in _logged_by(each, goal, verbs) for each in goal.messages) for verb in alphabet.maps
        ) and all(verbs & _logged_by(each, goal, verbs) for each in goal.messages)
    return all(verbs & _logged_by(each, goal, verbs) for each in goal.messages)


def _logged_by(message: Message, goal: Goal, otherwise: Collection[str]) -> set[str]:
    """The verbs through which a message is logged, or others where any may be."""
    verbs = _LOGGED_BY.get(message.event, {*otherwise})
    # A driver's request has one line more.
    drivers = any(each.event is Event.IOREMAP_FAILED for each in goal.messages) or not goal.only
    if message.event is Event.RESERVE_FAILED and not drivers:
        return verbs - {"ioremap", "memremap"}
    return verbs


_LOGGED_BY = {
    Event.IOREMAP_REFUSED: {"ioremap", "memremap"},
    Event.IOREMAP_FAILED: {"ioremap", "memremap"},
    Event.IOREMAP_ON_RAM: {"ioremap"},
    Event.MEMREMAP_ON_RAM: {"memremap"},
    Event.MEMREMAP_MIXED: {"memremap"},
    Event.RAM_RESERVE_FAILED: {"set_memory", "reserve_wc"},
    Event.UNCACHED_RAM: {"set_memory"},
    Event.USER_REFUSED: {"mmap", "fork"},
    Event.USER_RAM: {"mmap"},
    Event.FREEING_INVALID: {"munmap", "exit", "release"},
    Event.NO_FIRST_PAGE: {"fork", "fork_without_memory"},
}
"""The verbs through which the kernel comes to the function that logs a message."""


class _Front:
    """The scenes that some verbs lead to in a number of steps, each by one way."""

    def __init__(self, goal: Goal, board: Board, machine: Machine, alphabet: _Alphabet) -> None:
        self._goal, self._board, self._alphabet = goal, board, alphabet
        self._front = [played((), board, machine)]
        self._known: set[object] = set()
        self._requests, self._setting_up = _requests_of(goal), _types_that_set_up(goal)

    def deeper(self, budget: Budget) -> tuple[Step, ...] | None:
        """Take each way one step further; returns the way that leads to what is wanted."""
        after: list[Scene] = []
        for before in self._front:
            for step in self._next(before):
                if budget.scenes <= 0:
                    return None
                budget.scenes -= 1
                scene = before.after(step)
                said = self._said(scene)
                if said is None:
                    continue
                if len(said) == len(self._goal.messages):
                    # The last step says the last message: what comes behind it led to nothing.
                    if self._is_as_told(scene):
                        return tuple(scene.steps)
                    continue
                key = (
                    # Where mappings only come, it doesn't matter whose a reservation is.
                    scene.key() if self._alphabet.changes else scene.key()[:2],
                    said,
                    frozenset({each.verb for each in scene.steps} & self._goal.verbs),
                )
                if key not in self._known:
                    self._known.add(key)
                    after.append(scene)
        self._front = after
        return None

    def _said(self, scene: Scene) -> frozenset[int] | None:
        """The numbers of the wanted messages that the kernel has said; None if it said something else too."""
        said: set[int] = set()
        for message in scene.said:
            found = [n for n, wanted in enumerate(self._goal.messages) if _fits(message, wanted)]
            if not found and self._goal.only and message.event not in _WARNINGS:
                return None
            said.update(found)
        return frozenset(said)

    def _is_as_told(self, scene: Scene) -> bool:
        goal, steps = self._goal, scene.steps
        private = any(step.private for step in steps)
        failed = any(steps[number].verb.startswith("fork") for number in scene.failed)
        verbs = {step.verb for step in steps}
        if failed:
            verbs.add("fork")
        return goal.verbs <= verbs and private >= goal.private and failed >= goal.fork_fails

    def _next(self, scene: Scene) -> Iterator[Step]:
        """The steps that can be taken from a scene."""
        yield from self._changes(scene)
        named = [
            (each.first, each.end)
            for each in self._goal.messages
            if each.first is not None and each.end is not None
        ]
        lowest, highest = (
            min((each[0] for each in named), default=0),
            max((each[1] for each in named), default=0),
        )
        for first, end in self._board.ranges:
            # What touches nothing that is spoken of changes nothing of it; what goes beyond it matters only
            # where a part may be left over.
            if named and not any(start < end and first < stop for start, stop in named):
                continue
            if named and "munmap" not in self._alphabet.changes and not lowest <= first < end <= highest:
                continue
            for verb in self._alphabet.maps:
                # Only RAM has a direct map to change.
                if verb != "set_memory" or all(self._board.ram[first:end]):
                    yield from self._maps(verb, first, end)

    def _maps(self, verb: str, first: int, end: int) -> Iterator[Step]:
        if verb == "reserve_wc":
            yield Step(verb, first, end, MemType.WC)
            return
        for memtype in self._goal.types:
            asked = (first, end, memtype) in self._requests
            # Where the MTRRs don't say write-back, WB is another word for UC-, but where it is to be logged.
            if memtype is MemType.WB and not any((*self._board.write_back, *self._board.ram)) and not asked:
                continue
            if memtype not in _KNOWS.get(verb, tuple(MemType)):
                continue
            if not asked and not self._sets_up(verb, memtype):
                continue
            yield Step(verb, first, end, memtype)
            if verb == "mmap" and self._alphabet.private:
                yield Step(verb, first, end, memtype, private=True)

    def _sets_up(self, verb: str, memtype: MemType) -> bool:
        """Whether a mapping that no message is about may lead to one: by the type that it holds."""
        if self._setting_up is not None and memtype not in self._setting_up:
            return False
        # Where mappings only come, any verb's reservation is as good as another's.
        one_verb = not self._alphabet.changes and not any(self._board.ram)
        return not one_verb or verb == self._alphabet.maps[0]

    def _changes(self, scene: Scene) -> Iterator[Step]:
        verbs = self._alphabet.changes
        children = [child for child in (False, True) if (2 if child else 1) in scene.processes]
        if "exit" in verbs:
            yield from (Step("exit", child=child) for child in children if scene.steps[-1].verb != "exit")
        if children == [False]:
            yield from (Step(verb) for verb in ("fork", "fork_without_memory") if verb in verbs)
        for target, (vpage, cells, _) in scene.mappings.items():
            if not vpage:
                if "release" in verbs:
                    yield Step("release", target=target)
                continue
            for child in children:
                if scene.steps[target].private and "write" in verbs:
                    yield Step("write", 0, 1, target=target, child=child)
                for verb, (first, end) in itertools.product(("munmap", "mprotect", "mremap"), _ranges(cells)):
                    if verb in verbs:
                        yield Step(verb, first, end, target=target, child=child)


def _requests_of(goal: Goal) -> frozenset[tuple[int, int, MemType]]:
    """The cells and types of the requests that the wanted messages are about."""
    asked: dict[tuple[int, int], set[MemType]] = {}
    for each in goal.messages:
        if each.first is not None and each.end is not None:
            types = asked.setdefault((each.first, each.end), set())
            types.update(() if each.asked is None else (each.asked,))
    return frozenset((*cells, memtype) for cells, types in asked.items() for memtype in types or goal.types)


def _types_that_set_up(goal: Goal) -> frozenset[MemType] | None:
    """The types that some memory has to have before; None for any, as a message that names none may want."""
    others = [each for each in goal.messages if each.event not in _FOLLOWING]
    if not others or not all(each.held for each in others):
        return None
    return frozenset(memtype for each in others for memtype in each.held)


_FOLLOWING = (Event.IOREMAP_FAILED, Event.RESERVE_FAILED)
"""Messages that say no type in use, but come behind one that does."""

_KNOWS = {
    "memremap": (MemType.WB, MemType.WT, MemType.WC),
    "set_memory": (MemType.WC, MemType.UC_MINUS),
}


def _ranges(cells: int) -> Iterator[tuple[int, int]]:
    """The ranges of some cells, the small ones first."""
    for size in range(1, cells + 1):
        yield from ((first, first + size) for first in range(cells - size + 1))


def _fits(message: Message, wanted: Message) -> bool:
    """Whether a message of the model's is one that is wanted."""
    if message.event is not wanted.event:
        return False
    if wanted.first is not None:
        assert message.first is not None
        assert message.end is not None
        cells = (message.first - FIRST_PFN, message.end - FIRST_PFN)
        if cells != (wanted.first, wanted.end):
            return False
    return wanted.asked in (None, message.asked) and wanted.held in ((), message.held)
