"""A range of guest-physical pages."""

from __future__ import annotations

from dataclasses import dataclass

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

    def overlaps(self, other: Region) -> bool:
        return self.start < other.end and other.start < self.end

    def addresses(self) -> range:
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
