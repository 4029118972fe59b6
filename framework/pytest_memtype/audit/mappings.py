"""The mappings of physical pages: where each is, whose it is, and with which type."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pytest_memtype.audit.frame_runs import FrameRuns, concatenate, merge_overlapping
from pytest_memtype.audit.regions import IDENTITY_MAP, Regions, regions
from pytest_memtype.audit.reverse import Paths
from pytest_memtype.audit.roots import Root
from pytest_memtype.audit.types import CacheRegisters, TypedLeaves, TypedWalk, effective_at
from pytest_memtype.audit.walk import PAGE_SIZES
from pytest_memtype.x86.effective import Effective
from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr_runs import runs
from pytest_memtype.x86.pte import PageSize

#: Mappings listed for one finding at most: more help no reader, and corrupted page tables may have millions.
MOST: Final = 256

_KERNEL_HALF: Final = 1 << 63
#: The accessed and dirty bits: the processor may set them in one table and not in another.
_CHANGING: Final = 1 << 5 | 1 << 6


@shown_in_hexadecimal("virtual", "start", "entry", "root")
@dataclass(frozen=True)
class PageMapping:
    """Neighbouring pages, virtually and physically, mapped by entries that say the same.

    :param virtual: Virtual address of the first page.
    :param start: Guest-physical address of the first page.
    :param pages: Number of pages of 4 KiB.
    :param page_size: Size of the page that each entry maps.
    :param entry: The first entry, as written in the table.
    :param memtype: Page attribute.
    :param effective: The type with the MTRRs; of a large page over several MTRR types, that of the first
        4 KiB that were asked for.
    :param region: What Linux has there: ``user``, ``direct map``, ``vmalloc``, ``module`` and so on.
    :param root: Frame number of the highest table; in the kernel's half, of one table that leads here.
    :param process: (pid, name); None in the kernel's half, and where the guest doesn't say.
    """

    virtual: int
    start: int
    pages: int
    page_size: PageSize
    entry: int
    memtype: MemType
    effective: Effective
    region: str
    root: int
    process: tuple[int, str] | None

    @property
    def where(self) -> str:
        """The process or region that the mapping belongs to, for people."""
        return f"{self.process[1]}:{self.process[0]}" if self.process else self.region


@dataclass(frozen=True)
class Listing:
    """The mappings of some pages, as far as they were looked for.

    :param complete: Are these all mappings of the pages?
    """

    mappings: tuple[PageMapping, ...]
    complete: bool


@dataclass(frozen=True)
class Mappings:
    """The mappings that a walk found, looked up page by page.

    :param walk: The page tables, with the types of what they map.
    :param typing: The registers that give an entry its meaning.
    :param roots: The address spaces that were walked.
    :param regions: Where Linux has its regions.
    """

    walk: TypedWalk
    typing: CacheRegisters
    roots: tuple[Root, ...]
    regions: Regions

    def of(self, frame: int, frames: int, *, most: int = MOST) -> tuple[PageMapping, ...]:
        """The mappings of some pages, by address space and address; the kernel's come last.

        :param frame: Number of the first page's frame.
        :param frames: Number of pages of 4 KiB.
        :param most: How many mappings are listed at most.
        """
        return self.listing(frame, frames, most=most).mappings

    def listing(self, frame: int, frames: int, *, most: int = MOST) -> Listing:
        """The mappings of some pages as in :meth:`of`, and whether they are all.

        The work has a bound: no more ways to entries are followed than eight times ``most``.

        :param frame: Number of the first page's frame.
        :param frames: Number of pages of 4 KiB.
        :param most: How many mappings are listed at most.
        """
        ways = list(itertools.islice(self._ways(frame, frames), 8 * most + 1))
        # An entry that is reached through several tables of the kernel's half, all of which say the same, is
        # listed once; tables that say something else at the same address are another mapping.
        found = {
            (
                one.virtual,
                0 if one.virtual >= _KERNEL_HALF else one.root,
                one.start,
                one.entry & ~_CHANGING,
            ): one
            for one in reversed(ways[: 8 * most])
        }
        merged = sorted(_merged(sorted(found.values(), key=_row)), key=_order)
        return Listing(tuple(merged[:most]), len(ways) <= 8 * most and len(merged) <= most)

    def mapped_otherwise(self, places: FrameRuns, memtype: MemType) -> FrameRuns:
        """Find pages that entries map with another page attribute, with a bit for each such attribute.

        :param places: Where to look: runs of frames, ascending and without overlap.
        :param memtype: The page attribute that the pages should have.
        """
        parts: list[FrameRuns] = []
        for level, each in self.walk.levels.items():
            order, first = self._by_frame[level]
            types = each.memtype[order]
            pages = 1 << 9 * (level - 1)
            if level > 1:
                # Every place in a large page finds all entries of it, and a guest chooses how many there are
                # of both. With each of them once, the work is as their sum, not as their product.
                once = np.unique(first << 3 | types)
                first, types = once >> 3, (once & 7).astype(np.uint8)
            low = np.searchsorted(first, places.first - pages + 1)
            counts = np.searchsorted(first, places.first + places.frames) - low
            place = np.repeat(np.arange(len(places)), counts)
            leaf = np.arange(len(place)) - np.repeat(np.cumsum(counts) - counts - low, counts)
            wrong = types[leaf] != memtype
            place, leaf = place[wrong], leaf[wrong]
            begins = np.maximum(first[leaf], places.first[place])
            ends = np.minimum(first[leaf] + pages, places.first[place] + places.frames[place])
            parts.append(FrameRuns(begins, ends - begins, np.int64(1) << types[leaf].astype(np.int64)))
        return merge_overlapping(concatenate(parts))

    def mtrr_runs(self, frame: int, frames: int) -> Iterator[tuple[int, int]]:
        """Cut frames into runs with one MTRR type: (first frame, number of frames) of each."""
        if self.typing.mtrr is None:
            yield frame, frames
            return
        for run in runs(self.typing.mtrr, frame << 12, (frame + frames) << 12):
            yield run.start >> 12, (run.end - run.start) >> 12

    def _ways(self, frame: int, frames: int) -> Iterator[PageMapping]:
        for level, each in self.walk.levels.items():
            order, first = self._by_frame[level]
            pages = 1 << 9 * (level - 1)
            # Pages are aligned to their size, and those of one level have one size.
            low, high = np.searchsorted(first, (frame - pages + 1, frame + frames)).tolist()
            for index in order[low:high].tolist():
                yield from self._of_leaf(each, level, index, frame)

    def _of_leaf(self, each: TypedLeaves, level: int, index: int, frame: int) -> Iterator[PageMapping]:
        leaves, first = each.leaves, int(each.frame[index])
        memtype = MemType(int(each.memtype[index]))
        effective = effective_at(max(first, frame), memtype, self.typing)
        for path in self._paths.to(level, int(leaves.table[index]), int(leaves.slot[index])):
            kernel = path.virtual >= _KERNEL_HALF
            process = None if kernel else self._processes.get(path.root)
            identity = not kernel and process is None and path.virtual == first << 12
            yield PageMapping(
                virtual=path.virtual,
                start=first << 12,
                pages=1 << 9 * (level - 1),
                page_size=PAGE_SIZES[level],
                entry=int(leaves.entry[index]),
                memtype=memtype,
                effective=effective,
                region=IDENTITY_MAP if identity else self.regions.name(path.virtual),
                root=path.root,
                process=process,
            )

    @functools.cached_property
    def _by_frame(self) -> dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """For each level the indices of its leaves in the order of their frames, and those frames."""
        found = {}
        for level, each in self.walk.levels.items():
            order = np.argsort(each.frame, kind="stable")
            found[level] = (order, each.frame[order].astype(np.int64))
        return found

    @functools.cached_property
    def _paths(self) -> Paths:
        return Paths(self.walk.walk)

    @functools.cached_property
    def _processes(self) -> dict[int, tuple[int, str] | None]:
        return {root.frame: root.process for root in self.roots}


def mappings(walk: TypedWalk, typing: CacheRegisters, roots: tuple[Root, ...]) -> Mappings:
    """Make the mappings of a walk ready to be looked up."""
    return Mappings(walk, typing, roots, regions(walk.walk))


def _order(each: PageMapping) -> tuple[bool, int, int, int]:
    kernel = each.virtual >= _KERNEL_HALF
    return kernel, 0 if kernel else each.root, each.virtual, each.root


def _row(each: PageMapping) -> tuple[bool, int, int, MemType, int]:
    """A sort key that puts mappings beside each other which can be merged into one row.

    Mappings that other tables have at the same addresses don't come between them.
    """
    kernel = each.virtual >= _KERNEL_HALF
    return kernel, 0 if kernel else each.root, each.virtual - each.start, each.memtype, each.virtual


def _merged(found: list[PageMapping]) -> Iterator[PageMapping]:
    current: PageMapping | None = None
    for each in found:
        if current is not None and _follows(current, each):
            current = replace(current, pages=current.pages + each.pages)
            continue
        if current is not None:
            yield current
        current = each
    if current is not None:
        yield current


def _follows(before: PageMapping, each: PageMapping) -> bool:
    size = before.pages << 12
    return (
        before.virtual + size == each.virtual
        and before.start + size == each.start
        and (before.page_size, before.memtype, before.effective, before.region, before.process)
        == (each.page_size, each.memtype, each.effective, each.region, each.process)
        and (before.root == each.root or each.virtual >= _KERNEL_HALF)
    )
