"""Page tables walked entry by entry: the reference for the audit, which must be obviously right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_memtype.audit.ram import Booleans, Entries, Frames
from pytest_memtype.audit.types import CacheRegisters
from pytest_memtype.x86.effective import Effective, effective_type
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import memory_type_at
from pytest_memtype.x86.pte import PageSize, leaf_address, memtype_of_entry

SIZES = {1: PageSize.SIZE_4K, 2: PageSize.SIZE_2M, 3: PageSize.SIZE_1G}
ADDRESS = ((1 << 52) - 1) & ~0xFFF


class ArrayRam:
    """RAM in an array of (frames, 512) words, from guest-physical address 0 on."""

    def __init__(self, words: NDArray[np.uint64]) -> None:
        self.words = words
        self.frames = len(words)

    def holds(self, frames: Frames) -> Booleans:
        held: Booleans = frames < np.uint64(self.frames)
        return held

    def read(self, frames: Frames) -> Entries:
        words: Entries = self.words[frames.astype(np.int64)]
        return words

    def column(self, frames: Frames, slot: int) -> Entries:
        words: Entries = self.words[frames.astype(np.int64), slot]
        return words


@dataclass(frozen=True)
class Leaf:
    """An entry that maps a page; one entry is one leaf, from however many address spaces it is reached."""

    level: int
    table: int
    slot: int
    entry: int

    @property
    def frames(self) -> range:
        first = leaf_address(self.entry, SIZES[self.level]) >> 12
        return range(first, first + (SIZES[self.level] >> 12))


def leaves(ram: ArrayRam, root: int, depth: int) -> Iterator[tuple[int, Leaf]]:
    """Every leaf with its virtual address (48 or 57 bits, not made canonical)."""
    stack = [(depth, root, 0)]
    while stack:
        level, table, virtual = stack.pop()
        words = ram.words[table]
        for slot in np.flatnonzero(words & np.uint64(1)).tolist():
            entry = int(words[slot])
            address = virtual | slot << 3 + 9 * level
            if level == 1 or (level <= 3 and entry >> 7 & 1):
                yield address, Leaf(level, table, slot, entry)
            else:
                stack.append((level - 1, (entry & ADDRESS) >> 12, address))


def effective_of(leaf: Leaf, frame: int, typing: CacheRegisters, *, entry: int | None = None) -> Effective:
    """What one page of a leaf is accessed as, were ``entry`` written there."""
    written = leaf.entry if entry is None else entry
    memtype = memtype_of_entry(written, page_size=SIZES[leaf.level], pat=typing.pat)
    mtrr = MemType.WB if typing.mtrr is None else memory_type_at(typing.mtrr, frame << 12)
    return effective_type(mtrr, memtype, typing.vendor)
