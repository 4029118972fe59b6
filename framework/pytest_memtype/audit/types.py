"""The type of each mapping, and the pages with mappings of more than one: one bit per type and page."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pytest_memtype.audit import vector
from pytest_memtype.audit.frame_runs import FrameRuns, concatenate, merge_overlapping, runs_of_bitmap
from pytest_memtype.audit.ram import Frames
from pytest_memtype.audit.walk import PAGE_SIZES, Leaves, Walk
from pytest_memtype.x86.effective import (
    EFFECTIVE_TYPES,
    Effective,
    Severity,
    Vendor,
    danger,
    effective_code,
    effective_type,
)
from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import MtrrState, memory_type_at
from pytest_memtype.x86.pte import PageSize

#: Frames below 4 GiB, where all RAM of small guests and all firmware's device memory is, have a place in one
#: array of bytes; those above are few or counted apart.
_DENSE: Final = 1 << 20

_GIGABYTE: Final = 1 << 18

#: Frames in large pages over several MTRR types that are looked at one by one: 4 GiB. A sound guest has as
#: many such pages as its MTRRs have borders; in one with masks full of holes all pages may be such.
MOST_MIXED: Final = 1 << 20


@shown_in_hexadecimal("pat")
@dataclass(frozen=True)
class CacheRegisters:
    """The registers that give an entry its meaning.

    :param pat: The value of IA32_PAT.
    :param mtrr: The MTRRs; None on a CPU without any: then everything is as the page table says.
    """

    pat: int
    mtrr: MtrrState | None
    vendor: Vendor


@dataclass(frozen=True)
class TypedLeaves:
    """The leaves of one level, with their types.

    :param frame: Number of the first frame of each page.
    :param memtype: Page attribute: ``MemType`` encodings.
    :param effective: :func:`effective_code`; of a page over several MTRR types, that of its first frame.
    :param mixed: Which pages lie over several MTRR types: indices, ascending.
    """

    leaves: Leaves
    frame: Frames
    memtype: NDArray[np.uint8]
    effective: NDArray[np.uint8]
    mixed: NDArray[np.int64]


@dataclass(frozen=True)
class TypedWalk:
    """A walk, and the effective type of all it found.

    :param levels: The leaves with their types, by level.
    :param pieces: All that is mapped, ascending and without overlap.
    :param unseen: Number of large pages over several MTRR types that are not among the pieces, because there
        are too many.
    """

    walk: Walk
    levels: dict[int, TypedLeaves]
    pieces: FrameRuns
    unseen: int = 0


def assign_types(walk: Walk, typing: CacheRegisters, *, frames: int) -> TypedWalk:
    """Work out the types of all that a walk found.

    :param walk: The page tables.
    :param typing: The registers that give an entry its meaning.
    :param frames: The number of the highest frame of RAM, plus one.
    """
    levels = {level: _typed(leaves, PAGE_SIZES[level], typing) for level, leaves in walk.leaves.items()}
    # Whole gigabytes, so that large pages are rows of it.
    seen = np.zeros(-(-max(frames, _DENSE) // _GIGABYTE) * _GIGABYTE, np.uint8)
    beyond: list[FrameRuns] = []
    left, unseen = MOST_MIXED, 0
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
            # Damaged tables have the same large page many times.
            keys = each.frame[each.mixed] << np.uint64(3) | each.memtype[each.mixed]
            several = each.mixed[np.unique(keys, return_index=True)[1]]
            fitting = several[: left // pages]
            unseen += len(several) - len(fitting)
            left -= len(fitting) * pages
            for index in fitting.tolist():
                found = _mixed_pieces(each, index, pages, typing)
                if inside[index]:
                    for start, count, mask in found:
                        seen[start : start + count] |= np.uint8(mask)
                else:
                    beyond.append(found)
        outside = ~inside
        if outside.any():
            outside[each.mixed] = False
            first = each.frame[outside].astype(np.int64)
            bits = 1 << each.effective[outside].astype(np.int64)
            beyond.append(FrameRuns(first, np.full(len(first), pages), bits))
    return TypedWalk(
        walk, levels, concatenate([runs_of_bitmap(seen), merge_overlapping(concatenate(beyond))]), unseen
    )


def _see_large(seen: NDArray[np.uint8], each: TypedLeaves, inside: NDArray[np.bool_], pages: int) -> None:
    """Mark the frames of large pages with their type, but for pages that have several types."""
    plain = inside.copy()
    plain[each.mixed] = False
    codes = each.effective[plain]
    rows = (each.frame[plain] // np.uint64(pages)).astype(np.intp)
    for code in np.flatnonzero(np.bincount(codes)).tolist():
        seen.reshape(-1, pages)[np.unique(rows[codes == code])] |= np.uint8(1 << code)


def conflicts(walk: TypedWalk) -> FrameRuns:
    """The frames that have more than one effective type."""
    return walk.pieces.only(walk.pieces.bits & (walk.pieces.bits - 1) != 0)


@functools.cache
def grade(bits: int) -> Severity:
    """How bad it is that a page has all types of a bit mask: the worst pair of them."""
    types = [memtype for memtype in EFFECTIVE_TYPES if bits >> effective_code(memtype) & 1]
    return max((danger(a, b) for a in types for b in types), default=Severity.OK)


def effective_at(frame: int, memtype: MemType, typing: CacheRegisters) -> Effective:
    """The effective type of the page with this frame number, where an entry gives it this page attribute."""
    mtrr = MemType.WB if typing.mtrr is None else memory_type_at(typing.mtrr, frame << 12)
    return effective_type(mtrr, memtype, typing.vendor)


def _typed(leaves: Leaves, size: PageSize, typing: CacheRegisters) -> TypedLeaves:
    address = vector.leaf_addresses(leaves.entry, size)
    memtype = vector.entry_types(leaves.entry, page_size=size, pat=typing.pat)
    mixed = np.empty(0, np.int64)
    if typing.mtrr is None:
        # As if they all said write-back, which lets every page attribute through (both vendors' tables).
        effective = _without_mtrrs(typing.vendor)[memtype]
    else:
        mtrr = vector.memory_types(typing.mtrr, address)
        effective = vector.effective_types(mtrr, memtype, typing.vendor)
        if size is not PageSize.SIZE_4K and len(leaves):
            mixed = np.flatnonzero(vector.mixed(typing.mtrr, address, size))
    return TypedLeaves(leaves, address >> np.uint64(12), memtype, effective, mixed)


@functools.cache
def _without_mtrrs(vendor: Vendor) -> NDArray[np.uint8]:
    table = np.zeros(max(MemType) + 1, np.uint8)
    for memtype in MemType:
        table[memtype] = effective_code(effective_type(MemType.WB, memtype, vendor))
    return table


def _mixed_pieces(each: TypedLeaves, index: int, pages: int, typing: CacheRegisters) -> FrameRuns:
    """A large page over several MTRR types, as runs of one effective type."""
    assert typing.mtrr is not None
    first, memtype = int(each.frame[index]), MemType(int(each.memtype[index]))
    starts, types = _runs(typing.mtrr, first, pages)
    effective = vector.effective_types(types, memtype, typing.vendor).astype(np.int64)
    return FrameRuns(starts, np.diff(starts, append=first + pages), np.int64(1) << effective)


@functools.lru_cache(maxsize=64)
def _runs(mtrr: MtrrState, first: int, pages: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """First frames and types of the runs in a large page; every audit of a guest has the same few."""
    frames = np.arange(first, first + pages, dtype=np.uint64)
    types = vector.memory_types(mtrr, frames << np.uint64(12))
    begins = np.concatenate([[0], np.flatnonzero(types[1:] != types[:-1]) + 1])
    return begins + first, types[begins]
