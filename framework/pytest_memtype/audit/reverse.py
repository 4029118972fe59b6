"""The way back from an entry to the virtual addresses it is reached at, in every address space."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_memtype.audit.ram import ENTRIES
from pytest_memtype.audit.walk import Walk
from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal


@shown_in_hexadecimal("root", "virtual")
@dataclass(frozen=True)
class Path:
    """A way from a root to a page.

    :param root: Frame number of the highest table.
    :param virtual: Canonical virtual address of the page in that address space.
    """

    root: int
    virtual: int


class Paths:
    """The ways to the entries of a walk, found one by one, since there may be too many to list.

    :param walk: The page tables. Of them only the pointers to tables are copied, sorted by the table.
    """

    def __init__(self, walk: Walk) -> None:
        self._depth = walk.depth
        self._levels = walk.levels
        # By child; at the top the kernel's half of all roots that share a table is one way.
        self._edges = {level: _edges(walk, level) for level in walk.levels}

    def to(self, level: int, table: int, slot: int) -> Iterator[Path]:
        """Find all ways to an entry; those through the kernel's half, which all roots share, only once.

        :param level: Level of the table that holds the entry; 1 is the lowest.
        :param table: The table that holds it: an index into the level's ``tables``.
        :param slot: Index of the entry in the table.
        """
        return self._up(level, table, slot << _shift(level))

    def _up(self, level: int, table: int, virtual: int) -> Iterator[Path]:
        if level == self._depth:
            root = int(self._levels[level].tables[table])
            yield Path(root=root, virtual=canonical(virtual, self._depth))
            return
        child, parent, slot = self._edges[level]
        first, end = np.searchsorted(child, (table, table + 1)).tolist()
        for edge in range(first, end):
            above = virtual | int(slot[edge]) << _shift(level + 1)
            yield from self._up(level + 1, int(parent[edge]), above)


def _edges(walk: Walk, level: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The pointers to a level's tables, as (child, parent, slot): by child, then as they were."""
    here = walk.levels[level]
    order = np.argsort(here.child, kind="stable")
    child, parent, slot = here.child[order], here.parent[order], here.slot[order].astype(np.int64)
    if level == walk.depth - 1:
        kernel = slot >= ENTRIES // 2
        # One number for each table and slot; in the processes' half each edge has its own.
        same = np.where(kernel, child * ENTRIES + slot, -1 - np.arange(len(child)))
        _, first = np.unique(same, return_index=True)
        first.sort()
        child, parent, slot = child[first], parent[first], slot[first]
    return child, parent, slot


def canonical(virtual: int, depth: int) -> int:
    """An address with its highest used bit in all bits above (Intel SDM vol. 1, "Canonical Addressing")."""
    bits = 12 + 9 * depth
    return virtual | (1 << 64) - (1 << bits) if virtual >> bits - 1 else virtual


def _shift(level: int) -> int:
    return 3 + 9 * level
