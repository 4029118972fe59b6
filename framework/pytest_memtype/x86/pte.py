"""The memory type of a page-table entry.

Only leaves are decoded: PWT and PCD of an entry above the leaf type the access
to the next table, not to the mapped page (Intel SDM vol. 3, "Paging and Memory
Typing").
"""

from __future__ import annotations

import enum

from pytest_memtype.x86 import pat as pat_register
from pytest_memtype.x86.memtype import MemType

PRESENT = 1 << 0
PWT = 1 << 3
PCD = 1 << 4
PS = 1 << 7
PAT_4K = 1 << 7
PROT_NONE = 1 << 8
PAT_LARGE = 1 << 12


class PageSize(enum.IntEnum):
    """Size in bytes of the page that a leaf maps: a PTE, a PDE or a PDPTE."""

    SIZE_4K = 1 << 12
    SIZE_2M = 1 << 21
    SIZE_1G = 1 << 30

    @property
    def shift(self) -> int:
        """log2 of the size in bytes."""
        return self.bit_length() - 1

    def __str__(self) -> str:
        return self.name.removeprefix("SIZE_")


def pat_index(entry: int, page_size: PageSize) -> int:
    """The PAT slot that a leaf chooses: 4 * PAT + 2 * PCD + PWT.

    :param entry: The raw 64-bit leaf.
    :param page_size: The size of the page that it maps.
    :returns: 0 to 7.
    :raises ValueError: An entry isn't 64 bits wide, or a 2M or 1G leaf lacks the PS bit: then it
        points to a table, and its bit 12 belongs to an address.
    """
    _check(entry)
    if page_size is PageSize.SIZE_4K:
        pat_bit = PAT_4K
    elif entry & PS:
        pat_bit = PAT_LARGE
    else:
        raise ValueError(f"entry {entry:#018x} has PS (bit 7) clear, so it isn't a {page_size} leaf")
    return 4 * bool(entry & pat_bit) + table_pat_index(entry)


def table_pat_index(entry: int) -> int:
    """The PAT slot of accesses to the table that an entry above the leaf, or CR3, points to: 0 to 3.

    There is no PAT bit in these. With CR4.PCIDE the two bits of CR3 belong to the PCID, and slot 0 is used.

    :param entry: The raw 64-bit entry.
    :raises ValueError: An entry isn't 64 bits wide.
    """
    _check(entry)
    return 2 * bool(entry & PCD) + bool(entry & PWT)


def memtype_of_entry(entry: int, *, page_size: PageSize, pat: int) -> MemType:
    """The page attribute of a leaf, before the MTRRs are combined with it.

    :param entry: The raw 64-bit leaf.
    :param page_size: The size of the page that it maps.
    :param pat: The value of IA32_PAT.
    :raises ValueError: See :func:`pat_index` and :func:`pytest_memtype.x86.pat.decode`.
    """
    return pat_register.decode(pat)[pat_index(entry, page_size)]


def leaf_address(entry: int, page_size: PageSize) -> int:
    """Physical address of the page that a leaf maps: bits 51 down to the page size's.

    Bit 12 of a large leaf is PAT and the bits above it are reserved, so they are no part of it.
    """
    return entry & ((1 << 52) - page_size)


def is_hidden(entry: int) -> bool:
    """Is it Linux' leaf of a page with PROT_NONE? The CPU sees no page there: bit 0 is clear.

    Linux sets bit 8 in its place (``_PAGE_PROTNONE``), and keeps the page and its type.
    """
    return entry & (PRESENT | PROT_NONE) == PROT_NONE


def linux_address(entry: int, page_size: PageSize) -> int:
    """Physical address of the page that Linux means by a leaf, hidden from the CPU or not.

    With PROT_NONE the address is inverted, lest a CPU with the L1TF bug reads ahead what it says: with every
    CPU (arch/x86/include/asm/pgtable-invert.h, ``flip_protnone_guard()``, 5.10 to 7.3).
    """
    return leaf_address(~entry if is_hidden(entry) else entry, page_size)


def _check(entry: int) -> None:
    if not 0 <= entry < 1 << 64:
        raise ValueError(f"{entry:#x} isn't a 64-bit page-table entry")
