"""Memory types of many addresses or entries at a time: functions of :mod:`pytest_memtype.x86` on arrays.

One table look-up per element, and no loop over elements.

======================  ===========================================================================
addresses, entries      any integer dtype, any shape; ``uint64`` is the fastest
memory types            ``uint8``: the architectural encoding, and :data:`UNDEFINED_CODE`
effective types         ``uint8``: :func:`pytest_memtype.x86.effective.effective_code`
PAT slots, dangers      ``uint8``: their value
======================  ===========================================================================

Results have the shape of the arguments (broadcast where there are two), and are C-contiguous.
"""

from __future__ import annotations

import functools
from itertools import product
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pytest_memtype.x86 import pat as pat_register
from pytest_memtype.x86.effective import (
    EFFECTIVE_TYPES,
    Effective,
    EffectiveType,
    Vendor,
    danger,
    effective_code,
    effective_type,
)
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import (
    FIXED_END,
    MTRR_TYPES,
    UNDEFINED,
    DecodedMtrrs,
    MtrrState,
    MtrrType,
    decode,
    precedence,
)
from pytest_memtype.x86.mtrr_runs import boundaries, spans_types
from pytest_memtype.x86.pte import PAT_4K, PAT_LARGE, PS, PWT, PageSize

Words: TypeAlias = NDArray[np.unsignedinteger] | NDArray[np.signedinteger]
Codes: TypeAlias = NDArray[np.uint8]
Booleans: TypeAlias = NDArray[np.bool_]

UNDEFINED_CODE: Final = 0xFF
"""The code of :data:`pytest_memtype.x86.mtrr.UNDEFINED`, beside the architectural encodings of the types."""

_4G = 1 << 32
_PAGE_SHIFT = 12
_NO_CELL = 0xFF

# Addresses handled at a time: temporaries that stay in the second-level cache make it twice as fast.
_BLOCK = 1 << 15

# Registers whose answers are put in one number at a time.
_AT_ONCE = 32


def memory_types(state: MtrrState, addresses: Words, *, in_smm: bool = False) -> Codes:
    """The types that the MTRRs of a CPU give physical addresses.

    See :func:`pytest_memtype.x86.mtrr.memory_type_at`.

    :param state: The registers.
    :param addresses: At most 52 bits each.
    :param in_smm: Ask for system-management mode; only SMRR tells the two apart.
    :raises ValueError: An address has more than 52 bits, or see :func:`pytest_memtype.x86.mtrr.decode`.
    :raises TypeError: The array doesn't hold integers; all functions here say so.
    """
    words = _words(addresses, bits=52, what="a physical address of at most 52 bits").ravel()
    mtrrs = decode(state)
    result = np.empty(words.shape, np.uint8)
    for start in range(0, words.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        result[block] = _memory_types(state, mtrrs, words[block], in_smm=in_smm)
    return result.reshape(np.shape(addresses))


def _memory_types(
    state: MtrrState, mtrrs: DecodedMtrrs, addresses: NDArray[np.uint64], *, in_smm: bool
) -> Codes:
    if mtrrs.enabled:
        seen = np.zeros(addresses.shape, np.uint8)
        for each in mtrrs.variable:
            covered = addresses & each.mask == each.base & each.mask
            seen |= covered.view(np.uint8) << np.uint8(each.memtype)
        types = _precedences(mtrrs.default)[seen]
        if state.amd is not None and state.amd.forces_write_back(_4G):
            forced = (addresses >= _4G) & (addresses < state.amd.top_above_4g)
            types[forced & (seen == 0)] = MemType.WB
        if mtrrs.fixed_enabled:
            low = addresses < FIXED_END
            if low.any():
                types[low] = _fixed_pages(mtrrs)[addresses[low] >> np.uint64(_PAGE_SHIFT)]
    else:
        types = np.full(addresses.shape, MemType.UC, np.uint8)
    if state.smrr is not None and state.smrr.valid:
        base, mask = state.smrr.base, state.smrr.mask
        hidden = (addresses & mask == base & mask) & (addresses < _4G)
        types[hidden] = state.smrr.memtype if in_smm else MemType.UC
    return types


@functools.cache
def _precedences(default: MemType) -> Codes:
    """The outcome by the set of types that cover an address, a bit for each type's encoding."""
    table = np.zeros(1 << MemType.UC_MINUS, np.uint8)
    for seen in range(table.size):
        types = frozenset(memtype for memtype in MTRR_TYPES if seen >> memtype & 1)
        table[seen] = _code(precedence(types, default))
    return table


@functools.lru_cache(maxsize=16)
def _fixed_pages(mtrrs: DecodedMtrrs) -> Codes:
    """The type of each of the 256 pages below 1 MiB."""
    return np.repeat(
        np.array([each.memtype for each in mtrrs.fixed], np.uint8),
        [each.size >> _PAGE_SHIFT for each in mtrrs.fixed],
    )


def _code(memtype: MtrrType) -> int:
    return UNDEFINED_CODE if memtype is UNDEFINED else memtype


def mixed(state: MtrrState, addresses: Words, page_size: PageSize) -> Booleans:
    """Whether pages lie over more than one MTRR type, see :func:`pytest_memtype.x86.mtrr_runs.spans_types`.

    :param state: The registers.
    :param addresses: First address of each page, a multiple of the page size.
    :param page_size: The size of all of them.
    :raises ValueError: An address isn't a multiple of the page size.
    """
    words = _words(addresses, bits=52, what="a physical address")
    known, inside = boundaries(state), page_size - 1
    divided: Booleans = np.asarray((words < np.uint64(known.below)) | (words & np.uint64(inside) != 0))
    for border in known.borders:
        divided |= (words < np.uint64(border)) & (words > np.uint64(border) - np.uint64(page_size))
    for base, mask in known.ranges:
        if mask & inside:
            divided |= (words ^ np.uint64(base)) & np.uint64(mask & ~inside) == 0
    # What a register divides may have one type yet. A mapping repeats in every root of page tables, and pages
    # that the same registers match have the same answer: one of each kind is asked for.
    chosen = words[divided]
    kinds = np.zeros(chosen.shape, np.int64)
    # Without a border inside, and above the fixed ranges.
    plain = (chosen >= np.uint64(known.below)) & (chosen & np.uint64(inside) == 0)
    for border in known.borders:
        kinds = 2 * kinds + (chosen >= np.uint64(border))
        plain &= (chosen >= np.uint64(border)) | (chosen <= np.uint64(border) - np.uint64(page_size))
    for number, (base, mask) in enumerate(known.ranges):
        matches = (chosen ^ np.uint64(base)) & np.uint64(mask & ~inside) == 0
        kinds = 2 * kinds + matches
        if number % _AT_ONCE == _AT_ONCE - 1:
            kinds = np.unique(kinds, return_inverse=True)[1]
    kinds[~plain] = -1 - np.unique(chosen[~plain], return_inverse=True)[1]
    _, first, places = np.unique(kinds, return_index=True, return_inverse=True)
    answers = np.fromiter(
        (spans_types(state, int(page), page_size) for page in chosen[first]), np.bool_, first.size
    )
    divided[divided] = answers[places]
    return divided


def pat_indexes(entries: Words, page_size: PageSize) -> Codes:
    """The PAT slots that leaves choose, see :func:`pytest_memtype.x86.pte.pat_index`.

    :param entries: The raw 64-bit leaves.
    :param page_size: The size of the page that each of them maps.
    :raises ValueError: A 2M or 1G leaf lacks the PS bit.
    """
    words = _words(entries, bits=64, what="a 64-bit page-table entry")
    large = page_size is not PageSize.SIZE_4K
    if large and not (words & np.uint64(PS)).all():
        entry = int(words[words & np.uint64(PS) == 0].flat[0])
        raise ValueError(f"entry {entry:#018x} has PS (bit 7) clear, so it isn't a {page_size} leaf")
    shift = (PAT_LARGE if large else PAT_4K).bit_length() - 1
    low = words.astype(np.uint16)
    slots: Codes = ((low >> (shift - 2) & 4) | (low >> (PWT.bit_length() - 1) & 3)).astype(np.uint8)
    return slots


def entry_types(entries: Words, *, page_size: PageSize, pat: int) -> Codes:
    """The page attributes of leaves, see :func:`pytest_memtype.x86.pte.memtype_of_entry`.

    :param entries: The raw 64-bit leaves.
    :param page_size: The size of the page that each of them maps.
    :param pat: The value of IA32_PAT.
    :raises ValueError: See :func:`pat_indexes` and :func:`pytest_memtype.x86.pat.decode`.
    """
    return np.array(pat_register.decode(pat), np.uint8)[pat_indexes(entries, page_size)]


def leaf_addresses(entries: Words, page_size: PageSize) -> NDArray[np.uint64]:
    """Physical addresses of the pages that leaves map, see :func:`pytest_memtype.x86.pte.leaf_address`.

    :param entries: The raw 64-bit leaves.
    :param page_size: The size of the page that each of them maps.
    """
    words = _words(entries, bits=64, what="a 64-bit page-table entry")
    return words & np.uint64((1 << 52) - page_size)


def effective_types(mtrr: Codes | MtrrType, pat_type: Codes | MemType, vendor: Vendor) -> Codes:
    """The effective types of accesses, see :func:`pytest_memtype.x86.effective.effective_type`.

    :param mtrr: What :func:`memory_types` says of the addresses, or one type for all of them.
    :param pat_type: The page attributes of the mappings, or one for all of them.
    :param vendor: The CPU's maker.
    :raises ValueError: A type has no row or column: UC- is no MTRR type, and some encodings are reserved.
    """
    return _cells(
        _effective_table(vendor),
        _code_array(mtrr),
        _code_array(pat_type),
        "no effective memory type for MTRR type {0:#04x} and page attribute {1:#04x}",
    )


@functools.cache
def _effective_table(vendor: Vendor) -> Codes:
    table = np.full((256, 256), _NO_CELL, np.uint8)
    mtrrs: list[MtrrType] = [*MTRR_TYPES, UNDEFINED]
    for mtrr, pat_type in product(mtrrs, MemType):
        table[_code(mtrr), pat_type] = effective_code(effective_type(mtrr, pat_type, vendor))
    return table


@functools.cache
def _danger_table() -> Codes:
    table = np.full((256, 256), _NO_CELL, np.uint8)
    for a, b in product(EFFECTIVE_TYPES, repeat=2):
        table[effective_code(a), effective_code(b)] = danger(a, b)
    return table


def _cells(table: Codes, rows: Codes, columns: Codes, complaint: str) -> Codes:
    cells: Codes = table.ravel()[rows.astype(np.uint16) << 8 | columns]
    if (cells == _NO_CELL).any():
        wrong = np.unravel_index(np.argmax(cells == _NO_CELL), cells.shape)
        row, column = (np.broadcast_to(each, cells.shape)[wrong] for each in (rows, columns))
        raise ValueError(complaint.format(int(row), int(column)))
    return cells


def _code_array(types: Codes | MtrrType) -> Codes:
    return _bytes(np.asarray(UNDEFINED_CODE if types is UNDEFINED else types))


def _effective_array(types: Codes | Effective) -> Codes:
    return _bytes(np.asarray(effective_code(types) if isinstance(types, MemType | EffectiveType) else types))


def _bytes(array: NDArray[np.generic]) -> Codes:
    if array.dtype == np.uint8:
        return array.view(np.uint8)
    words = _words(array, bits=8, what="the code of a type")
    return words.astype(np.uint8)


def _words(array: NDArray[np.generic], *, bits: int, what: str) -> NDArray[np.uint64]:
    if array.dtype.kind not in "ui":
        raise TypeError(f"an array of {array.dtype}, where integers are needed")
    if array.dtype.kind == "i" and array.size and int(array.min()) < 0:
        raise ValueError(f"{int(array.min()):#x} isn't {what}")
    words = array.astype(np.uint64, copy=False)
    if bits < 64 and words.size and int(words.max()) >> bits:
        raise ValueError(f"{int(words.max()):#x} isn't {what}")
    return words
