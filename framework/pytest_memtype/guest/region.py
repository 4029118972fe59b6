"""A range of guest-physical pages."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pytest_memtype.errors import UsageError
from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal

PAGE_SIZE = 4096


@shown_in_hexadecimal("start")
@dataclass(frozen=True)
class Region:
    """Guest-physical memory, in whole pages of 4 KiB.

    A slice is a region too, counted in pages: ``region[1:3]`` is its second and
    third page, ``region[0]`` its first.

    :param start: Address of the first byte, a multiple of 4096.
    :param pages: How many pages; 0 is allowed, so that refusing it can be tested.
    """

    start: int
    pages: int

    def __post_init__(self) -> None:
        if self.start < 0 or self.start % PAGE_SIZE:
            raise ValueError(f"a region can't start at {self.start:#x}: that is not the start of a page")
        if self.pages < 0:
            raise ValueError(f"a region can't have {self.pages} pages")

    @property
    def size(self) -> int:
        """Size of the region in bytes."""
        return self.pages * PAGE_SIZE

    @property
    def end(self) -> int:
        """Address of the first byte behind the region."""
        return self.start + self.size

    def parts(self) -> tuple[Region, ...]:
        """The pieces of memory that it is made of: itself, where it isn't :class:`Pieces`."""
        return (self,)

    def overlaps(self, other: Region) -> bool:
        return any(
            one.start < two.end and two.start < one.end for one in self.parts() for two in other.parts()
        )

    def addresses(self) -> Sequence[int]:
        """The address of each page."""
        return range(self.start, self.end, PAGE_SIZE)

    def __getitem__(self, pages: slice | int) -> Region:
        if isinstance(pages, int):
            index = range(self.pages)[pages]
            return Region(self.start + index * PAGE_SIZE, 1)
        first, last, step = pages.indices(self.pages)
        if step != 1:
            raise ValueError("a region has no pages in between: a slice can't have a step")
        return Region(self.start + first * PAGE_SIZE, max(0, last - first))

    def __str__(self) -> str:
        """The region as Linux prints memory: ``[mem 0xfd000000-0xfd003fff]``."""
        return f"[mem {self.start:#x}-{max(self.start, self.end - 1):#x}]"


@shown_in_hexadecimal("start")
@dataclass(frozen=True)
class Pieces(Region):
    """Several pieces of memory that a mapping has one behind the other; ``start`` is the first one's.

    :param pieces: The pieces, in the order of the mapping's pages.
    """

    pieces: tuple[Region, ...] = ()

    def parts(self) -> tuple[Region, ...]:
        return self.pieces

    @property
    def end(self) -> int:
        return self.pieces[-1].end

    def addresses(self) -> Sequence[int]:
        return tuple(itertools.chain.from_iterable(each.addresses() for each in self.pieces))

    def __getitem__(self, pages: slice | int) -> Region:
        if isinstance(pages, int):
            return Region(self.addresses()[pages], 1)
        first, last, step = pages.indices(self.pages)
        if step != 1:
            raise ValueError("a region has no pages in between: a slice can't have a step")
        found = []
        for each in self.pieces:
            part = each[max(0, first) : max(0, last)]
            found += [part] if part.pages else []
            first, last = first - each.pages, last - each.pages
        return together(found) if found else Region(self.start, 0)

    def __str__(self) -> str:
        return " and ".join(map(str, self.pieces))


def one_piece(region: Region, function: str) -> Region:
    """Return the region, for a function that takes a start and a size and knows no more.

    :param region: The memory that somebody asks for.
    :param function: The function's name, for the error.
    :raises UsageError: the memory is several pieces.
    """
    if len(region.parts()) > 1:
        raise UsageError(f"{function} takes one range of memory, not {len(region.parts())}: {region}")
    return region


def together(pieces: Iterable[Region]) -> Region:
    """Pieces of memory as what a mapping has one behind the other; one piece is itself.

    :param pieces: The pieces, at least one.
    """
    found = tuple(pieces)
    if len(found) == 1:
        return found[0]
    return Pieces(found[0].start, sum(each.pages for each in found), found)
