"""From an entry back to the addresses it is reached at, in every address space."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pytest_memtype.audit.walk import Walk
from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal


@shown_in_hexadecimal("root", "virtual")
@dataclass(frozen=True)
class Path:
    """One way to a page.

    :param root: Frame of the highest table.
    :param virtual: Canonical address of the page there.
    """

    root: int
    virtual: int


def paths(walk: Walk, level: int, table: int, slot: int) -> Iterator[Path]:
    """All ways to an entry. A kernel mapping has one in each address space.

    :param table: The table that holds it: an index into the level's ``tables``.
    """
    stack = [(level, table, slot << _shift(level))]
    while stack:
        level, table, virtual = stack.pop()
        if level == walk.depth:
            yield Path(root=int(walk.levels[level].tables[table]), virtual=canonical(virtual, walk.depth))
            continue
        here = walk.levels[level]
        for edge in np.flatnonzero(here.child == table).tolist():
            stack.append(
                (level + 1, int(here.parent[edge]), virtual | int(here.slot[edge]) << _shift(level + 1))
            )


def canonical(virtual: int, depth: int) -> int:
    """The address with its highest used bit in all bits above (Intel SDM vol. 1, "Canonical Addressing")."""
    bits = 12 + 9 * depth
    return virtual | (1 << 64) - (1 << bits) if virtual >> bits - 1 else virtual


def _shift(level: int) -> int:
    return 3 + 9 * level
