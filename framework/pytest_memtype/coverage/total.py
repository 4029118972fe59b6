"""The sum of a run's readings: the counters of the whole run, and those of each of its tests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from pytest_memtype.coverage.counters import Counts, Layout, layout
from pytest_memtype.coverage.reading import Reading
from pytest_memtype.errors import UsageError


@dataclass(frozen=True)
class Lost:
    """A guest whose counters are lost.

    :param test: The node id of its test; empty for a template.
    :param reason: Why.
    """

    test: str
    reason: str


@dataclass(frozen=True)
class Total:
    """The counters of a run.

    :param layout: What the counters are of.
    :param counts: Their sums. The boot of a template counts once, however many clones it has.
    :param boots: Those of the templates' boots alone.
    :param tests: Those of each test, by its node id.
    :param lost: The guests whose counters are lost.
    """

    layout: Layout
    counts: Counts
    boots: Counts
    tests: dict[str, Counts]
    lost: tuple[Lost, ...]

    def of_each(self) -> Iterator[tuple[str, Counts]]:
        """The counters of each test, and of the boots under an empty name."""
        yield "", self.boots
        yield from self.tests.items()


def total(found: Iterable[Reading]) -> Total:
    """Add up the readings of a run.

    :param found: The readings.
    :raises UsageError: there are none, or they are of kernels that were built apart.
    """
    common: Layout | None = None
    templates: dict[str, Counts] = {}
    tests: list[tuple[Reading, Counts]] = []
    lost: list[Lost] = []
    for reading in found:
        if reading.lost:
            lost.append(Lost(reading.test, reading.lost))
            continue
        data = reading.data
        if common is None:
            common = layout(reading.names, data)
        counts = common.counts(reading.names, data)
        if reading.test:
            tests.append((reading, counts))
        else:
            templates[reading.template] = counts
    if common is None:
        raise UsageError("coverage: no guest has left its counters")
    nothing = np.zeros(len(common.low), dtype=np.int64)
    boots: Counts = sum(templates.values(), start=nothing)
    own: dict[str, Counts] = {}
    for reading, counts in tests:
        # The first clone read what all begin with a moment later than the others were made.
        less = np.maximum(counts - templates.get(reading.template, nothing), 0)
        own[reading.test] = own[reading.test] + less if reading.test in own else less
    return Total(common, sum(own.values(), start=boots), boots, own, tuple(lost))
