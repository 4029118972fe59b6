"""What type each mapping has, and which pages have mappings of more than one: one bit per type and page."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pytest_memtype.audit.pieces import Pieces, dense, overlaid, together
from pytest_memtype.audit.ram import Frames
from pytest_memtype.audit.walk import PAGE_SIZES, Leaves, Walk
from pytest_memtype.x86.effective import (
    EFFECTIVE_TYPES,
    Danger,
    EffectiveType,
    Vendor,
    danger,
    effective_type,
)
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
    :param pieces: All that is mapped, ascending and apart.
    """

    walk: Walk
    levels: dict[int, Typed]
    pieces: Pieces


def typed(walk: Walk, typing: Typing, *, frames: int) -> TypedWalk:
    """Work out all types.

    :param frames: One more than the highest frame of RAM.
    """
    levels = {level: _typed(leaves, PAGE_SIZES[level], typing) for level, leaves in walk.leaves.items()}
    # Whole gigabytes, so that large pages are rows of it.
    seen = np.zeros(-(-max(frames, _DENSE) // _GIGABYTE) * _GIGABYTE, np.uint8)
    beyond: list[Pieces] = []
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
            mixed = {(int(each.frame[index]), int(each.memtype[index])): index for index in each.mixed}
            for index in mixed.values():
                found = _mixed_pieces(each, index, pages, typing)
                if inside[index]:
                    for start, count, mask in found:
                        seen[start : start + count] |= np.uint8(mask)
                else:
                    beyond.append(found)
        outside = ~inside
        if outside.any():
            outside[list(each.mixed)] = False
            first = each.frame[outside].astype(np.int64)
            bits = 1 << each.effective[outside].astype(np.int64)
            beyond.append(Pieces(first, np.full(len(first), pages), bits))
    return TypedWalk(walk, levels, together([dense(seen), overlaid(together(beyond))]))


def _see_large(seen: NDArray[np.uint8], each: Typed, inside: NDArray[np.bool_], pages: int) -> None:
    """Mark large pages, but for those that have several types."""
    plain = inside.copy()
    plain[list(each.mixed)] = False
    codes = each.effective[plain]
    rows = (each.frame[plain] // np.uint64(pages)).astype(np.intp)
    for code in np.flatnonzero(np.bincount(codes)).tolist():
        seen.reshape(-1, pages)[np.unique(rows[codes == code])] |= np.uint8(1 << code)


def conflicts(walk: TypedWalk) -> Pieces:
    """Those frames that have more than one effective type."""
    return walk.pieces.only(walk.pieces.bits & (walk.pieces.bits - 1) != 0)


@functools.cache
def grade(bits: int) -> Danger:
    """How bad it is that a page has all types of a bit mask: the worst pair of them."""
    types = [memtype for memtype in EFFECTIVE_TYPES if bits >> memtype.code & 1]
    return max((danger(a, b) for a in types for b in types), default=Danger.OK)


def effective_at(frame: int, memtype: MemType, typing: Typing) -> EffectiveType:
    """What a page is accessed as that an entry maps with this page attribute."""
    mtrr = MemType.WB if typing.mtrr is None else memory_type_at(typing.mtrr, frame << 12)
    return effective_type(mtrr, memtype, typing.vendor)


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


def _mixed_pieces(each: Typed, index: int, pages: int, typing: Typing) -> Pieces:
    """A page over several MTRR types, as runs of one effective type."""
    assert typing.mtrr is not None
    first, memtype = int(each.frame[index]), MemType(int(each.memtype[index]))
    found = _runs(typing.mtrr, first << 12, (first + pages) << 12)
    return Pieces(
        first=np.array([run.start >> 12 for run in found]),
        frames=np.array([(run.end - run.start) >> 12 for run in found]),
        bits=np.array([1 << effective_type(run.memtype, memtype, typing.vendor).code for run in found]),
    )


@functools.lru_cache(maxsize=1024)
def _runs(mtrr: MtrrState, start: int, end: int) -> tuple[Run, ...]:
    # Every audit of a guest has the same few, and the 88 fixed ranges take as long as all the rest.
    return tuple(runs(mtrr, start, end))
