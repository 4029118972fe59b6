"""Physical memory as runs of pages that are mapped alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_memtype.audit.ram import Booleans


@dataclass(frozen=True)
class FrameRuns:
    """Runs of frames that are mapped with the same effective types: a table's columns, a row for each run.

    :param first: Number of the first frame.
    :param frames: How many frames.
    :param bits: A bit for each :func:`effective_code` that they are mapped with.
    """

    first: NDArray[np.int64]
    frames: NDArray[np.int64]
    bits: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.first)

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        return zip(self.first.tolist(), self.frames.tolist(), self.bits.tolist(), strict=True)

    def only(self, which: Booleans) -> FrameRuns:
        """The rows that a mask chooses."""
        return FrameRuns(self.first[which], self.frames[which], self.bits[which])

    def within(self, first: int, last: int) -> FrameRuns:
        """The runs from frame ``first`` up to, without, frame ``last``, cut at both ends.

        The rows have to be ascending and without overlap.
        """
        low = int(np.searchsorted(self.first, first, side="right"))
        high = int(np.searchsorted(self.first, last))
        # The piece before may reach in.
        low = max(0, low - 1)
        starts = np.maximum(self.first[low:high], first)
        ends = np.minimum(self.first[low:high] + self.frames[low:high], last)
        return FrameRuns(starts, ends - starts, self.bits[low:high]).only(starts < ends)

    def any_within(self, first: int, last: int) -> bool:
        """Is there a run from frame ``first`` up to, without, frame ``last``?

        The rows have to be ascending and without overlap.
        """
        place = int(np.searchsorted(self.first, last))
        return place > 0 and first < last and int(self.first[place - 1] + self.frames[place - 1]) > first

    def cut(self, borders: NDArray[np.int64]) -> FrameRuns:
        """Split the runs so that none goes over a border.

        :param borders: Frame numbers, ascending.
        """
        ends = self.first + self.frames
        low = np.searchsorted(borders, self.first, side="right")
        inside = np.searchsorted(borders, ends) - low
        rows = np.repeat(np.arange(len(self)), inside + 1)
        # The number of each part within its row.
        part = np.arange(len(rows)) - np.repeat(np.cumsum(inside + 1) - inside - 1, inside + 1)
        padded = np.concatenate([borders, [0]])
        starts = np.where(part == 0, self.first[rows], padded[low[rows] + part - 1])
        stops = np.where(
            part == inside[rows], ends[rows], padded[low[rows] + np.minimum(part, inside[rows] - 1)]
        )
        return FrameRuns(starts, stops - starts, self.bits[rows])


def concatenate(parts: list[FrameRuns]) -> FrameRuns:
    """The rows of several tables as one table, in the given order."""
    nothing = np.empty(0, np.int64)
    return FrameRuns(
        first=np.concatenate([nothing, *(part.first for part in parts)]),
        frames=np.concatenate([nothing, *(part.frames for part in parts)]),
        bits=np.concatenate([nothing, *(part.bits for part in parts)]),
    )


def runs_of_bitmap(seen: NDArray[np.uint8]) -> FrameRuns:
    """The runs of frames in an array that has the bits of each frame."""
    first = np.concatenate([[0], np.flatnonzero(seen[1:] != seen[:-1]) + 1]).astype(np.int64)
    bits = seen[first].astype(np.int64)
    return FrameRuns(first, np.diff(first, append=len(seen)), bits).only(bits != 0)


def merge_overlapping(pieces: FrameRuns) -> FrameRuns:
    """Turn runs that overlap into runs that don't, with the bits of all that cover them."""
    ends = pieces.first + pieces.frames
    borders = np.unique(np.concatenate([pieces.first, ends]))
    bits = np.zeros(len(borders), np.int64)
    for code in range(8):
        chosen = pieces.bits >> code & 1 == 1
        if chosen.any():
            begun = np.bincount(np.searchsorted(borders, pieces.first[chosen]), minlength=len(borders))
            ended = np.bincount(np.searchsorted(borders, ends[chosen]), minlength=len(borders))
            bits |= (np.cumsum(begun - ended) > 0).astype(np.int64) << code
    # Behind the last border is nothing, so the last change is to no bits at all.
    changes = np.flatnonzero(np.diff(bits, prepend=0))
    found = FrameRuns(borders[changes], np.diff(borders[changes], append=0), bits[changes])
    return found.only(found.bits != 0)
