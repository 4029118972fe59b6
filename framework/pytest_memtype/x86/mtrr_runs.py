"""Where the answer of the MTRRs changes: runs of one type, and large pages over more than one.

A large page over different MTRR types "can behave in an undefined manner" (Intel SDM vol. 3, "Large Page
Size Considerations"). Masks may have holes, so ranges are halved until each piece has one answer.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal
from pytest_memtype.x86.mtrr import FIXED_END, MtrrState, MtrrType, decode, memory_type_at
from pytest_memtype.x86.pte import PageSize

_PAGE = 1 << 12
_4G = 1 << 32


@shown_in_hexadecimal("start", "end")
@dataclass(frozen=True)
class Run:
    """Addresses from ``start`` up to, without, ``end`` that have one MTRR type."""

    start: int
    end: int
    memtype: MtrrType


def runs(state: MtrrState, start: int, end: int) -> Iterator[Run]:
    """The MTRR types from ``start`` up to ``end``, as few runs as there are, ascending.

    A mask with many holes makes many of them: take no more than are needed.

    :param state: The registers.
    :param start: First address, a multiple of 4 KiB.
    :param end: First address behind them, a multiple of 4 KiB too.
    :raises ValueError: One of the two isn't, or see :func:`pytest_memtype.x86.mtrr.memory_type_at`.
    """
    if start % _PAGE or end % _PAGE:
        raise ValueError(f"{start:#x} to {end:#x} aren't whole pages of 4 KiB")
    current = None
    # Asked for once: to find them by the registers' values takes longer than to use them.
    known, answers = boundaries(state), _answers(state)

    def alike(block: int, size: int) -> Iterator[Run]:
        """The part of a naturally aligned block in [start, end), cut where its halves differ in type."""
        first, last = max(start, block), min(end, block + size)
        if first >= last:
            return
        found = _types(state, known, answers, block, size)
        if len(found) == 1:
            yield Run(first, last, next(iter(found)))
            return
        yield from alike(block, size // 2)
        yield from alike(block + size // 2, size // 2)

    for piece in alike(0, 1 << max(0, end - 1).bit_length()):
        if current is not None and current.memtype is piece.memtype:
            current = Run(current.start, piece.end, piece.memtype)
            continue
        if current is not None:
            yield current
        current = piece
    if current is not None:
        yield current


def pieces(state: MtrrState, start: int, end: int) -> Iterator[Run]:
    """Naturally aligned blocks of one MTRR type each, as large as can be, from ``start`` up to ``end``.

    No register tells two addresses of a block apart. :func:`runs` joins such blocks.

    :param state: The registers.
    :param start: First address, a multiple of 4 KiB.
    :param end: First address behind them, a multiple of 4 KiB too.
    :raises ValueError: See :func:`runs`.
    """
    if start % _PAGE or end % _PAGE:
        raise ValueError(f"{start:#x} to {end:#x} aren't whole pages of 4 KiB")
    while start < end:
        # The greatest naturally aligned block that fits and has one answer.
        size = start & -start or 1 << 52
        while size > end - start or not _has_one_answer(state, start, size):
            size //= 2
        yield Run(start, start + size, memory_type_at(state, start))
        start += size


@shown_in_hexadecimal("below", "borders", "ranges")
@dataclass(frozen=True)
class Dividers:
    """Registers and borders that may give two addresses different MTRR types.

    :param below: Each page below this address may have a type of its own.
    :param borders: Addresses where the answer may change.
    :param ranges: (base, mask) of each register: what it covers has the bits of the mask in common with base.
    """

    below: int
    borders: tuple[int, ...]
    ranges: tuple[tuple[int, int], ...]


@functools.lru_cache(maxsize=256)
def boundaries(state: MtrrState) -> Dividers:
    """Everything that may give two addresses of a CPU different MTRR types."""
    mtrrs = decode(state)
    ranges = [(each.base, each.mask) for each in mtrrs.variable] if mtrrs.enabled else []
    borders: set[int] = set()
    if state.smrr is not None and state.smrr.valid:
        borders.add(_4G)
        ranges.append((state.smrr.base, state.smrr.mask))
    if state.amd is not None and state.amd.forces_write_back(_4G):
        borders |= {_4G, state.amd.top_above_4g}
    fixed = mtrrs.enabled and mtrrs.fixed_enabled
    return Dividers(FIXED_END if fixed else 0, tuple(sorted(borders)), tuple(ranges))


def _has_one_answer(state: MtrrState, start: int, size: int) -> bool:
    """Whether no register tells two addresses of a naturally aligned block apart."""
    if size == _PAGE:
        return True
    known, inside = boundaries(state), size - 1
    if start < known.below or any(start < border < start + size for border in known.borders):
        return False
    return not any(mask & inside and not (start ^ base) & mask & ~inside for base, mask in known.ranges)


def spans_types(state: MtrrState, address: int, page_size: PageSize) -> bool:
    """Whether the page at an address lies over more than one MTRR type.

    :param state: The registers.
    :param address: The page's first address, a multiple of the page size.
    :param page_size: The page's size.
    :raises ValueError: The address isn't a multiple of the page size.
    """
    if address % page_size:
        raise ValueError(f"{address:#x} isn't the address of a {page_size} page")
    return len(types_within(state, address, page_size)) > 1


def types_within(state: MtrrState, start: int, size: int) -> frozenset[MtrrType]:
    """The MTRR types in a naturally aligned block.

    However many holes the masks have, the work has a bound: below an address bit nothing but the set of
    registers that still match decides, and n registers have 2**n sets.

    :param state: The registers.
    :param start: The block's first address, a multiple of its size.
    :param size: Bytes: a power of two, of 4 KiB or more.
    :raises ValueError: See :func:`pytest_memtype.x86.mtrr.memory_type_at`.
    """
    return _types(state, boundaries(state), _answers(state), start, size)


#: Size of a block, the registers that match as far as the block decides, and the segment between borders.
_Question: TypeAlias = tuple[int, int, int]


@functools.lru_cache(maxsize=64)
def _answers(_state: MtrrState) -> dict[_Question, frozenset[MtrrType]]:
    """The answers of a CPU's registers so far, for :func:`_types` to fill."""
    return {}


def _types(
    state: MtrrState,
    known: Dividers,
    answers: dict[_Question, frozenset[MtrrType]],
    start: int,
    size: int,
) -> frozenset[MtrrType]:
    inside, half = size - 1, size // 2
    low, border = start < known.below, any(start < each < start + size for each in known.borders)
    matching = dividing = 0
    for number, (base, mask) in enumerate(known.ranges):
        if not (start ^ base) & mask & ~inside:
            matching |= 1 << number
            dividing |= mask & inside
    if size == _PAGE or not (low or border or dividing):
        return frozenset({memory_type_at(state, start)})
    segment = sum(each <= start for each in known.borders)
    # The fixed ranges make each page below 1 MiB a case of its own, and a block with a border in it.
    question = (size, -1 - start, segment) if low or border else (size, matching, segment)
    if question not in answers:
        lower = _types(state, known, answers, start, half)
        answers[question] = lower | _types(state, known, answers, start + half, half)
    return answers[question]
