"""What the guest's page tables hold for a mapping."""

from __future__ import annotations

from typing import Any

from pytest_memtype.guest.region import Region
from pytest_memtype.guest.registers import Registers
from pytest_memtype.x86.effective import EffectiveType, effective_type
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import memory_type_at
from pytest_memtype.x86.pte import PageSize, leaf_address, memtype_of_entry

_PAGE_SIZES = {size.shift: size for size in PageSize}


def granted_types(content: dict[str, Any], registers: Registers, *, pages: int) -> tuple[MemType | None, ...]:
    """The memory type of each 4 KiB page, None where nothing is mapped.

    :param content: ``page_table`` of a reply: runs of (leaf entry, shift, pages).
    :param pages: How many there must be.
    :raises ValueError: there are others, or the agent had more runs than room for them.
    """
    return types_by_pat(content, registers.pat_value, pages=pages)


def types_by_pat(content: dict[str, Any], pat_value: int, *, pages: int) -> tuple[MemType | None, ...]:
    """The same where no more than IA32_PAT is known.

    :raises ValueError: as :func:`granted_types`.
    """
    if content["truncated"]:
        raise ValueError("the page table entries change their attributes more often than the agent can say")
    counts = [count for _, _, count in content["runs"]]
    if sum(counts) != pages or any(count < 1 for count in counts):
        raise ValueError(f"the page table entries are those of {counts} pages, not of {pages}")
    types: list[MemType | None] = []
    for entry, shift, count in content["runs"]:
        memtype = None
        if entry:
            memtype = memtype_of_entry(entry, page_size=_PAGE_SIZES[shift], pat=pat_value)
        types += [memtype] * count
    return tuple(types)


def physical_address(content: dict[str, Any], *, virtual: int) -> int | None:
    """Guest-physical address of the first page of a reply's ``page_table``, None when nothing is there.

    :param virtual: Where it is mapped, which tells the pages of a large one apart.
    """
    entry, shift, _ = map(int, content["runs"][0])
    if not entry:
        return None
    return leaf_address(entry, _PAGE_SIZES[shift]) | virtual & (1 << shift) - 1


def effective_types(
    region: Region, granted: tuple[MemType | None, ...], registers: Registers
) -> tuple[EffectiveType | None, ...]:
    """The effective type of each page: its type in the page table combined with the MTRRs'.

    A CPU without MTRRs has no say besides the page table; the WB row of the
    vendor's table is that (Intel SDM, "Selecting Memory Types for Pentium III
    and More Recent Processor Families").
    """
    types: list[EffectiveType | None] = []
    for address, memtype in zip(region.addresses(), granted, strict=True):
        if memtype is None:
            types.append(None)
            continue
        mtrr = MemType.WB if registers.mtrr is None else memory_type_at(registers.mtrr, address)
        types.append(effective_type(mtrr, memtype, registers.vendor))
    return tuple(types)
