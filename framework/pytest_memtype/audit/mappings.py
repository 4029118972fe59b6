"""All mappings of some physical pages: where each is, whose it is, and with which type."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from pytest_memtype.audit.effective import Typed, TypedWalk, Typing
from pytest_memtype.audit.path import paths
from pytest_memtype.audit.regions import IDENTITY_MAP, Regions, regions
from pytest_memtype.audit.roots import Root
from pytest_memtype.audit.walk import PAGE_SIZES
from pytest_memtype.x86.effective import EFFECTIVE_TYPES, Effective
from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.pte import PageSize

#: Of one finding: a reader wants no more, and page tables gone mad may have millions.
MOST: Final = 256

_KERNEL_HALF: Final = 1 << 63


@shown_in_hexadecimal("virtual", "start", "entry", "root")
@dataclass(frozen=True)
class PageMapping:
    """Pages mapped in a row, virtually and physically, by entries that say the same.

    :param virtual: Address of the first.
    :param start: Guest-physical address of the first.
    :param pages: Of 4 KiB.
    :param page_size: Of the entries.
    :param entry: The first, as written in the table.
    :param memtype: Page attribute.
    :param effective: With the MTRRs; of a large page over several MTRR types, that of its first 4 KiB.
    :param region: What Linux has there: ``user``, ``direct map``, ``vmalloc``, ``module`` and so on.
    :param root: Frame of the highest table; of the kernel's half, which all share, one of them.
    :param process: (pid, name), where the guest says whose a user mapping is.
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
        """Region or process, for people."""
        return f"{self.process[1]}:{self.process[0]}" if self.process else self.region


@dataclass(frozen=True)
class Mappings:
    """What a walk found, asked page by page.

    :param roots: The address spaces that were walked.
    """

    walk: TypedWalk
    typing: Typing
    roots: tuple[Root, ...]
    regions: Regions

    def of(self, frame: int, frames: int, *, most: int = MOST) -> tuple[PageMapping, ...]:
        """Those of some pages, by address, the kernel's behind the processes'; at most so many."""
        found: dict[tuple[int, int], PageMapping] = {}
        for level, each in self.walk.levels.items():
            pages = 1 << 9 * (level - 1)
            first = each.frame.astype(np.int64)
            for index in np.flatnonzero((first < frame + frames) & (first + pages > frame)).tolist():
                for one in self._of_leaf(each, level, index):
                    # The kernel's half is every root's; its mappings are told once.
                    key = (one.virtual, 0 if one.virtual >= _KERNEL_HALF else one.root)
                    found.setdefault(key, one)
                if len(found) >= 8 * most:
                    break
        return tuple(_merged(sorted(found.values(), key=_order)))[:most]

    def _of_leaf(self, each: Typed, level: int, index: int) -> Iterator[PageMapping]:
        leaves = each.leaves
        processes = {root.frame: root.process for root in self.roots}
        for path in paths(self.walk.walk, level, int(leaves.table[index]), int(leaves.slot[index])):
            kernel = path.virtual >= _KERNEL_HALF
            start = int(each.frame[index]) << 12
            process = None if kernel else processes.get(path.root)
            identity = not kernel and process is None and path.virtual == start
            yield PageMapping(
                virtual=path.virtual,
                start=start,
                pages=1 << 9 * (level - 1),
                page_size=PAGE_SIZES[level],
                entry=int(leaves.entry[index]),
                memtype=MemType(int(each.memtype[index])),
                effective=EFFECTIVE_TYPES[int(each.effective[index])],
                region=IDENTITY_MAP if identity else self.regions.name(path.virtual),
                root=path.root,
                process=process,
            )


def mappings(walk: TypedWalk, typing: Typing, roots: tuple[Root, ...]) -> Mappings:
    """Make a walk ready to be asked."""
    return Mappings(walk, typing, roots, regions(walk.walk))


def _order(each: PageMapping) -> tuple[bool, int, int]:
    kernel = each.virtual >= _KERNEL_HALF
    return kernel, 0 if kernel else each.root, each.virtual


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
