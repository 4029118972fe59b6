"""The differences between the records of several kernels, or of several runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from pytest_memtype.report.answer import EFFECTIVE, KERNEL, answers, question
from pytest_memtype.report.record import Record

NOT_RUN = "not run"
"""Stands for the answer where the test has no record: it was skipped, or not selected."""

OTHERWISE = "the test goes on otherwise"

_Guest = tuple[str, int]
"""A test, as all kernels call it, and the number of the guest within it."""


@dataclass(frozen=True)
class Column:
    """The records that are compared with other columns: of one kernel, or of one kernel of one run.

    :param name: The heading of the column in the table.
    """

    name: str
    records: Sequence[Record]


@dataclass(frozen=True)
class Difference:
    """A step that wasn't answered alike in all columns.

    :param case: The test, without its kernel.
    :param guest: Number of the guest within the test.
    :param step: Number of the step within the guest, from 1.
    :param operation: What was done or looked at, and by whom it was answered if not by the kernel.
    :param answers: One for each column.
    :param side: Who answered.
    """

    case: str
    guest: int
    step: int
    operation: str
    answers: tuple[str, ...]
    side: str = KERNEL


@dataclass
class Change:
    """Differences that have the same operation and the same answers.

    :param operation: See :class:`Difference`.
    :param answers: One for each column.
    :param differences: All of them; the first serves as an example.
    """

    operation: str
    answers: tuple[str, ...]
    differences: list[Difference] = field(default_factory=list)

    @property
    def cases(self) -> list[str]:
        """The tests that the differences are in, each once."""
        return list(dict.fromkeys(each.case for each in self.differences))


def changes(differences: Sequence[Difference]) -> list[Change]:
    """Group equal differences into changes: the most frequent first, then in the order of the run."""
    found: dict[tuple[str, tuple[str, ...]], Change] = {}
    for each in differences:
        key = (each.operation, each.answers)
        found.setdefault(key, Change(*key)).differences.append(each)
    return sorted(found.values(), key=lambda change: -len(change.differences))


@dataclass(frozen=True, slots=True)
class Step:
    """The part of a record that is compared; it takes a tenth of the record's memory.

    :param question: What was done or looked at, in words.
    :param answers: The answer of each side.
    :param unjudged: Is it a request of a guest without the module?
    """

    question: str
    answers: tuple[tuple[str, str], ...]
    unjudged: bool


class Steps:
    """The steps of a column, by test and guest."""

    def __init__(self) -> None:
        self.by_guest: dict[_Guest, list[Step]] = {}

    def add(self, record: Record) -> None:
        """Add a record, in the order of the run."""
        said = tuple((side, sys.intern(text)) for side, text in answers(record).items())
        step = Step(sys.intern(question(record)), said, record.get("verdict", "") is None)
        self.by_guest.setdefault((record["case"], record["guest"]), []).append(step)


def differences(columns: Sequence[Column]) -> list[Difference]:
    """The steps that differ, in the order of the first column that has the test.

    Compared is what each side answered: addresses, process ids and messages differ between any two guests.
    A column that has no record of a test has no say in it, nor has a side that a column lacks. Where the
    tests themselves differ, because what they do depends on the kernel, nothing after that is compared.
    """
    return differences_of(list(map(_steps, columns)))


def differences_of(columns: Sequence[Steps]) -> list[Difference]:
    """The steps that differ, as :func:`differences` tells them.

    :param columns: The steps of each column.
    """
    split = [each.by_guest for each in columns]
    found: list[Difference] = []
    for guest in dict.fromkeys(key for each in split for key in each):
        found += _of_guest(guest, [each.get(guest) for each in split])
    return found


def _steps(column: Column) -> Steps:
    steps = Steps()
    for record in column.records:
        steps.add(record)
    return steps


def _of_guest(guest: _Guest, columns: Sequence[list[Step] | None]) -> list[Difference]:
    took_part = [each for each in columns if each is not None]
    if len(took_part) < 2:
        return []
    found: list[Difference] = []
    for at in range(max(map(len, took_part))):
        # A guest without the module ends its test where that is needed: what it didn't do is no answer.
        now = [None if each is None or _left_off(each, at) else each[at : at + 1] for each in columns]
        present = [each for each in now if each is not None]
        if len(present) < 2:
            break
        asked = [each[0].question if each else "ends" for each in present]
        if len(set(asked)) > 1:
            if not found:
                # Else it is the consequence of what was found.
                texts = iter(asked)
                said = tuple(NOT_RUN if each is None else next(texts) for each in now)
                found.append(Difference(*guest, at + 1, OTHERWISE, said))
            break
        found += _of_step(guest, at + 1, asked[0], [each[0] if each else None for each in now])
    return found


def _left_off(steps: Sequence[Step], at: int) -> bool:
    return at >= len(steps) and any(each.unjudged for each in steps)


def _of_step(guest: _Guest, step: int, operation: str, steps: Sequence[Step | None]) -> list[Difference]:
    said = [None if each is None else dict(each.answers) for each in steps]
    found: list[Difference] = []
    for side in dict.fromkeys(side for each in said if each for side in each):
        texts = [None if each is None else each.get(side) for each in said]
        if side == EFFECTIVE and any(each.side == KERNEL for each in found):
            continue  # It follows from the type granted.
        if len({text for text in texts if text is not None}) > 1:
            what = operation if side == KERNEL else f"{operation}: {side}"
            found.append(Difference(*guest, step, what, tuple(text or NOT_RUN for text in texts), side))
    return found
