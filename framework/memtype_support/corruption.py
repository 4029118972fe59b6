"""Page tables gone mad: random words, and entries that belong elsewhere, all over a real guest's memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pytest_memtype.audit.walk import Walk


def tables_of(walk: Walk) -> NDArray[np.int64]:
    """The frames of all tables, ascending."""
    return np.unique(np.concatenate([level.tables for level in walk.levels.values()])).astype(np.int64)


def corrupted(
    words: NDArray[np.uint64], tables: NDArray[np.int64], times: int, *, seed: int
) -> Iterator[int]:
    """Corrupt the memory, so many times; it is as it was before each next one, and in the end.

    :param words: The memory, (frames, 512), which is changed.
    :param tables: Frames of its page tables.
    :param seed: The same one, the same corruptions.
    :returns: How many entries were changed: 1, 8, 64 or 512.
    """
    chance = np.random.default_rng(seed)
    for turn, count in zip(range(times), itertools.cycle((1, 8, 64, 512)), strict=False):
        before = words[tables].copy()
        at = chance.choice(tables, count), chance.integers(0, 512, count)
        if turn % 2:
            # Every kind of pointer, each somewhere else: cycles, shared tables, tables as pages.
            words[at] = words[chance.choice(tables, count), chance.integers(0, 512, count)]
        else:
            words[at] = chance.integers(0, 1 << 63, count, dtype=np.uint64)
        yield count
        words[tables] = before
