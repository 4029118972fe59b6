"""The entries that the guest's page tables hold for a mapping."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from pytest_memtype.guest.region import Region
from pytest_memtype.guest.registers import Registers
from pytest_memtype.guest.strict import flag, integer
from pytest_memtype.x86.effective import Effective, effective_type
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import MtrrState, MtrrType
from pytest_memtype.x86.mtrr_runs import runs
from pytest_memtype.x86.pte import PageSize, is_hidden, linux_address, memtype_of_entry

_PAGE_SHIFT = 12
_PAGE_SIZES = {size.shift: size for size in PageSize}


class HoldsPat(Protocol):
    """Registers of a CPU, as the guest or QEMU has them: page-table entries are read with the PAT."""

    @property
    def pat_value(self) -> int: ...


@dataclass(frozen=True)
class Leaves:
    """Neighbouring pages whose page-table entries differ in nothing but the page.

    :param page_size: Size of the entries' pages, also where only a part of a large page is mapped.
    :param pages: How many pages of 4 KiB.
    :param memtype: The type in the entries; None where nothing is mapped.
    :param hidden: Have they PROT_NONE? Then the CPU sees no page there, while Linux keeps it, and its type.
    """

    page_size: PageSize
    pages: int
    memtype: MemType | None
    hidden: bool = False


def decode_leaves(content: dict[str, Any], pat_value: int, *, pages: int) -> tuple[Leaves, ...]:
    """The page-table entries that map a range, from its first page to its last.

    :param content: ``page_table`` of a reply: runs of (leaf entry, shift, pages).
    :param pat_value: Value of IA32_PAT.
    :param pages: How many pages of 4 KiB there must be.
    :raises TypeError: an entry, a shift or a count is no number.
    :raises ValueError: there are more or fewer, or the agent had more runs than room for them.
    """
    if flag(content["truncated"]):
        raise ValueError("the page table entries change their attributes more often than the agent can say")
    entries = [(integer(entry), integer(shift), integer(count)) for entry, shift, count in content["runs"]]
    counts = [count for _, _, count in entries]
    if sum(counts) != pages or any(count < 1 for count in counts):
        raise ValueError(f"the page table entries are those of {counts} pages, not of {pages}")
    leaves = []
    for entry, shift, count in entries:
        size = _PAGE_SIZES[shift]
        memtype = memtype_of_entry(entry, page_size=size, pat=pat_value) if entry else None
        leaves.append(Leaves(size, count, memtype, is_hidden(entry)))
    return tuple(leaves)


def granted_types(content: dict[str, Any], registers: HoldsPat, *, pages: int) -> tuple[MemType | None, ...]:
    """The memory type of each 4 KiB page; arguments and errors as of :func:`decode_leaves`."""
    return types_of(decode_leaves(content, registers.pat_value, pages=pages))


def types_by_address(content: dict[str, Any], region: Region, pat_value: int) -> tuple[MemType | None, ...]:
    """The memory type of each 4 KiB page of a region, where it is this region that the entries map.

    After a part of a mapping was unmapped, another may be at its addresses; a private page that was written
    is a copy elsewhere; one with PROT_NONE the CPU doesn't see. Such pages are None here, as those that
    nothing maps.

    :param content: ``page_table`` of a reply, as for :func:`decode_leaves`.
    :param region: The pages that the mapping was made of, as many as the reply has.
    :param pat_value: Value of IA32_PAT.
    :raises ValueError: as of :func:`decode_leaves`.
    """
    types: list[MemType | None] = []
    leaves = decode_leaves(content, pat_value, pages=region.pages)
    addresses = region.addresses()
    for (entry, shift, _), run in zip(content["runs"], leaves, strict=True):
        start = addresses[len(types)]
        # A large page's addresses, virtual and physical, have the same low bits.
        maps = linux_address(entry, _PAGE_SIZES[shift]) | start & (1 << shift) - 1
        types += [run.memtype if entry and maps == start and not run.hidden else None] * run.pages
    return tuple(types)


def types_of(leaves: Iterable[Leaves]) -> tuple[MemType | None, ...]:
    """The memory type of each 4 KiB page, None where nothing is mapped."""
    return tuple(itertools.chain.from_iterable([each.memtype] * each.pages for each in leaves))


def types_for_cpu(leaves: Iterable[Leaves]) -> tuple[MemType | None, ...]:
    """The memory type of each 4 KiB page, None where the CPU sees none: those with PROT_NONE, too."""
    return types_of(replace(each, memtype=None) if each.hidden else each for each in leaves)


def physical_address(content: dict[str, Any], *, virtual: int) -> int | None:
    """Guest-physical address of the first page of a reply's ``page_table``, None when nothing is there.

    :param content: ``page_table`` of a reply, as for :func:`decode_leaves`.
    :param virtual: Virtual address of that page, which tells the 4 KiB pages of a large one apart.
    """
    entry, shift, _ = map(integer, content["runs"][0])
    if not entry:
        return None
    return linux_address(entry, _PAGE_SIZES[shift]) | virtual & (1 << shift) - 1


def effective_types(
    region: Region, granted: tuple[MemType | None, ...], registers: Registers
) -> tuple[Effective | None, ...]:
    """The effective type of each page: its type in the page table combined with the MTRRs'.

    A CPU without MTRRs has no say besides the page table; the WB row of the
    vendor's table is that (Intel SDM, "Selecting Memory Types for Pentium III
    and More Recent Processor Families").
    """
    effective = functools.cache(lambda mtrr, memtype: effective_type(mtrr, memtype, registers.vendor))
    mtrrs = itertools.chain.from_iterable(_mtrr_types(each, registers.mtrr) for each in region.parts())
    return tuple(
        None if memtype is None else effective(mtrr, memtype)
        for mtrr, memtype in zip(mtrrs, granted, strict=True)
    )


def _mtrr_types(region: Region, state: MtrrState | None) -> Iterable[MtrrType]:
    """The MTRRs' type of each page; by runs, because a large region has few of them and many pages."""
    if state is None:
        return [MemType.WB] * region.pages
    spans = runs(state, region.start, region.end)
    return itertools.chain.from_iterable(
        [span.memtype] * ((span.end - span.start) >> _PAGE_SHIFT) for span in spans
    )
