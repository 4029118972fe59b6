"""Tests put together into tasks: those that boot the same guests stay together, and long ones go first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

LONGEST: Final = 40.0
"""Seconds of a core that a task is to take: starting one costs half a second."""

SHORTEST: Final = 4.0
"""Seconds of the last tasks of a run, for which the other workers wait."""

UNKNOWN: Final = 1.0
"""Seconds of a test that hasn't run before, where no other has."""


@dataclass(frozen=True)
class Case:
    """A test as it is cut into tasks.

    :param nodeid: pytest's node id.
    :param variant: The kernel in its guest, by its name in the node id; empty for a test without a guest.
    :param place: Its layout and hardware in words; tests that share them share a template.
    :param together: Tests of one variant with the same word have to run in one process; empty for others.
    :param seconds: How long it takes, by earlier runs.
    """

    nodeid: str
    variant: str
    place: str
    together: str
    seconds: float


@dataclass(frozen=True)
class Task:
    """Tests that a worker runs one after the other in one process.

    :param variant: The kernel in its guest, as of all its tests.
    :param nodeids: The tests, in order.
    :param seconds: How long they take, by earlier runs.
    :param tries: How many workers have tried it and answered nothing.
    """

    variant: str
    nodeids: tuple[str, ...]
    seconds: float
    tries: int = 0


def cut(cases: Iterable[Case], slots: int) -> list[Task]:
    """Cut tests into tasks, the longest first. The fewer are left, the smaller they are.

    :param cases: The tests, in the order of the run.
    :param slots: Number of tasks that run at once.
    """
    units: dict[tuple[str, str, str], list[Case]] = {}
    for number, case in enumerate(cases):
        alone = case.together or f"{number}"
        units.setdefault((case.variant, case.place, alone), []).append(case)
    places: dict[tuple[str, str], list[list[Case]]] = {}
    for (variant, place, _), unit in units.items():
        places.setdefault((variant, place), []).append(unit)
    left = sum(case.seconds for unit in units.values() for case in unit)
    found: list[Task] = []
    now: list[Case] = []

    def close() -> None:
        nonlocal left
        if now:
            found.append(task_of(now))
            left -= found[-1].seconds
            now.clear()

    # Large groups are cut while tasks are long.
    for _, group in sorted(places.items(), key=lambda each: (each[0][0], -_seconds_of(each[1]))):
        for unit in group:
            if now and now[0].variant != unit[0].variant:
                close()
            limit = min(LONGEST, max(SHORTEST, left / (3 * slots)))
            if now and _seconds(now) + _seconds(unit) > limit:
                close()
            now += unit
    close()
    return sorted(found, key=lambda task: -task.seconds)


def task_of(cases: Sequence[Case]) -> Task:
    """The task of some tests of one variant."""
    return Task(cases[0].variant, tuple(case.nodeid for case in cases), _seconds(cases))


def halves(task: Task) -> list[Task]:
    """A task cut in two, for the search for the test that kills its workers; of one test it stays.

    :param task: The task that failed.
    """
    if len(task.nodeids) == 1:
        return [Task(task.variant, task.nodeids, task.seconds, task.tries + 1)]
    middle = len(task.nodeids) // 2
    parts = (task.nodeids[:middle], task.nodeids[middle:])
    return [Task(task.variant, part, task.seconds / 2) for part in parts]


def _seconds_of(units: Iterable[Sequence[Case]]) -> float:
    return sum(map(_seconds, units))


def _seconds(cases: Sequence[Case]) -> float:
    return sum(case.seconds for case in cases)
