"""What type each mapping has, and which pages have mappings of more than one: one bit per type and page."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pytest_memtype.audit.ram import Frames
from pytest_memtype.audit.walk import PAGE_SIZES, Leaves, Walk
from pytest_memtype.x86.effective import EFFECTIVE_TYPES, Danger, Vendor, danger, effective_type
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import MtrrState, memory_type_at
from pytest_memtype.x86.pte import PageSize, leaf_address, memtype_of_entry
from pytest_memtype.x86.uniform import Run, is_mixed, runs

#: Frames below 4 GiB, where all RAM of small guests and all firmware's device memory is, have a place in one
#: array of bytes; those above are few or counted apart.
_DENSE: Final = 1 << 20

_GIGABYTE: Final = 1 << 18


@dataclass(frozen=True)
class Typing:
    """The registers that give an entry its meaning.

    :param pat: IA32_PAT.
    :param mtrr: None on a CPU without MTRRs: then everything is as the page table says.
    """

    pat: int
    mtrr: MtrrState | None
    vendor: Vendor


@dataclass(frozen=True)
class Typed:
    """The leaves of one level, with their types.

    :param frame: First frame of each page.
    :param memtype: Page attribute: ``MemType`` encodings.
    :param effective: :attr:`EffectiveType.code`; of a page over several MTRR types, that of its first frame.
    :param mixed: Which pages lie over several MTRR types: indices.
    """

    leaves: Leaves
    frame: Frames
    memtype: NDArray[np.uint8]
    effective: NDArray[np.uint8]
    mixed: frozenset[int]


@dataclass(frozen=True)
class TypedWalk:
    """A walk, and the effective type of all it found.

    :param levels: By level.
    :param seen: For each frame: a bit for each :attr:`EffectiveType.code` that it is mapped with.
    :param above: (first frame, frames, bits) of pieces beyond, ascending and apart.
    """

    walk: Walk
    levels: dict[int, Typed]
    seen: NDArray[np.uint8]
    above: tuple[tuple[int, int, int], ...]


def typed(walk: Walk, typing: Typing, *, frames: int) -> TypedWalk:
    """Work out all types.

    :param frames: One more than the highest frame of RAM.
    """
    levels = {level: _typed(leaves, PAGE_SIZES[level], typing) for level, leaves in walk.leaves.items()}
    # Whole gigabytes, so that large pages are rows of it.
    seen = np.zeros(-(-max(frames, _DENSE) // _GIGABYTE) * _GIGABYTE, np.uint8)
    pieces = _Pieces(typing)
    beyond: list[tuple[int, int, int]] = []
    for level, each in levels.items():
        pages = 1 << 9 * (level - 1)
        inside = each.frame < np.uint64(len(seen) - pages + 1)
        if level == 1:
            counts = np.bincount(each.effective)
            everywhere = bool(inside.all())
            for code in np.flatnonzero(counts).tolist():
                if everywhere and counts[code] == len(each.frame):
                    frames_of = each.frame
                else:
                    frames_of = each.frame[(each.effective == code) & inside]
                seen[frames_of] |= np.uint8(1 << code)
        else:
            _see_large(seen, each, inside, pages)
            mixed = {(int(each.frame[index]), int(each.memtype[index])): index for index in each.mixed}
            for index in mixed.values():
                if inside[index]:
                    for first, count, code in pieces.of(each, index, pages):
                        seen[first : first + count] |= np.uint8(1 << code)
        for index in np.flatnonzero(~inside).tolist():
            beyond += [(first, count, 1 << code) for first, count, code in pieces.of(each, index, pages)]
    return TypedWalk(walk=walk, levels=levels, seen=seen, above=_overlaid(beyond))


def _see_large(seen: NDArray[np.uint8], each: Typed, inside: NDArray[np.bool_], pages: int) -> None:
    """Mark large pages, but for those that have several types."""
    plain = inside.copy()
    plain[list(each.mixed)] = False
    codes = each.effective[plain]
    rows = (each.frame[plain] // np.uint64(pages)).astype(np.intp)
    for code in np.flatnonzero(np.bincount(codes)).tolist():
        seen.reshape(-1, pages)[np.unique(rows[codes == code])] |= np.uint8(1 << code)


def conflicts(walk: TypedWalk) -> list[tuple[int, int, int]]:
    """Runs of frames that have more than one effective type: (first frame, frames, bits), ascending."""
    seen = walk.seen
    several = seen & (seen - np.uint8(1)) != 0
    found: list[tuple[int, int, int]] = []
    if several.any():
        frames = np.flatnonzero(several)
        breaks = np.flatnonzero((np.diff(frames) != 1) | (np.diff(seen[frames].astype(np.int16)) != 0)) + 1
        for run in np.split(frames, breaks):
            found.append((int(run[0]), len(run), int(seen[run[0]])))
    return found + [piece for piece in walk.above if piece[2] & (piece[2] - 1)]


@functools.cache
def grade(bits: int) -> Danger:
    """How bad it is that a page has all types of a bit mask: the worst pair of them."""
    types = [memtype for memtype in EFFECTIVE_TYPES if bits >> memtype.code & 1]
    return max((danger(a, b) for a in types for b in types), default=Danger.OK)


def _typed(leaves: Leaves, size: PageSize, typing: Typing) -> Typed:
    address = leaf_address(leaves.entry, size)
    memtype = memtype_of_entry(leaves.entry, page_size=size, pat=typing.pat)
    mixed: frozenset[int] = frozenset()
    if typing.mtrr is None:
        # As if they all said write-back, which lets every page attribute through (both vendors' tables).
        effective = _without_mtrrs(typing.vendor)[memtype]
    else:
        effective = effective_type(memory_type_at(typing.mtrr, address), memtype, typing.vendor)
        if size is not PageSize.SIZE_4K and len(leaves):
            mixed = frozenset(np.flatnonzero(is_mixed(typing.mtrr, address, size)).tolist())
    frame: Frames = (address >> np.uint64(12)).astype(np.uint64, copy=False)
    return Typed(leaves, frame, memtype, effective, mixed)


@functools.cache
def _without_mtrrs(vendor: Vendor) -> NDArray[np.uint8]:
    table = np.zeros(max(MemType) + 1, np.uint8)
    for memtype in MemType:
        table[memtype] = effective_type(MemType.WB, memtype, vendor).code
    return table


class _Pieces:
    """Pages as runs of one effective type."""

    def __init__(self, typing: Typing) -> None:
        self._typing = typing
        # Damaged tables have the same large page many times.
        self._runs: dict[tuple[int, int], tuple[Run, ...]] = {}

    def of(self, each: Typed, index: int, pages: int) -> list[tuple[int, int, int]]:
        """One, unless it lies over several MTRR types: (first frame, frames, code)."""
        mtrr, first = self._typing.mtrr, int(each.frame[index])
        if mtrr is None or index not in each.mixed:
            return [(first, pages, int(each.effective[index]))]
        if (first, pages) not in self._runs:
            self._runs[first, pages] = tuple(runs(mtrr, first << 12, (first + pages) << 12))
        memtype = MemType(int(each.memtype[index]))
        return [
            (
                run.start >> 12,
                (run.end - run.start) >> 12,
                effective_type(run.memtype, memtype, self._typing.vendor).code,
            )
            for run in self._runs[first, pages]
        ]


def _overlaid(pieces: list[tuple[int, int, int]]) -> tuple[tuple[int, int, int], ...]:
    """Pieces that overlap, as pieces that don't, with the bits of all that cover them."""
    if not pieces:
        return ()
    starts = np.array([first for first, _, _ in pieces])
    ends = np.array([first + count for first, count, _ in pieces])
    bits = np.array([mask for _, _, mask in pieces])
    borders = np.unique(np.concatenate([starts, ends]))
    covered = np.zeros((len(borders), 8), np.int64)
    for bit in range(8):
        chosen = bits >> bit & 1 == 1
        np.add.at(covered[:, bit], np.searchsorted(borders, starts[chosen]), 1)
        np.add.at(covered[:, bit], np.searchsorted(borders, ends[chosen]), -1)
    masks = (np.cumsum(covered, axis=0) > 0) @ (1 << np.arange(8))
    merged: list[tuple[int, int, int]] = []
    for first, last, mask in zip(borders.tolist(), borders[1:].tolist(), masks.tolist(), strict=False):
        if not mask:
            continue
        if merged and merged[-1][2] == mask and sum(merged[-1][:2]) == first:
            merged[-1] = (merged[-1][0], last - merged[-1][0], mask)
        else:
            merged.append((first, last - first, mask))
    return tuple(merged)
