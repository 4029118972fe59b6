"""The steps of a reproducer: operations of one driver, one process and its child, on a board of cells."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal
from pytest_memtype.x86.memtype import MemType

MAPS = ("ioremap", "memremap", "mmap", "set_memory", "reserve_wc")
"""Verbs that name cells of their own; the others name the mapping of an earlier step, or a process."""


@dataclass(frozen=True)
class Step:
    """An operation of a reproducer.

    :param verb: The name of the method of :class:`pytest_memtype.guest.driver.Driver` or
        :class:`pytest_memtype.guest.process.Process`; ``fork_without_memory`` is ``fork`` while the kernel
        gets no page for a page table.
    :param first_cell: The first cell that it is about: of the board, or, with a ``target``, of that mapping.
    :param end_cell: The cell behind the last.
    :param memtype: The type that it asks for; None for verbs that ask for none.
    :param target: The number of the step that made the mapping it is about, from 0; None without.
    :param private: Is it a private mapping?
    :param child: Does the child do it, and not the process?
    """

    verb: str
    first_cell: int = 0
    end_cell: int = 0
    memtype: MemType | None = None
    target: int | None = None
    private: bool = False
    child: bool = False

    @property
    def actor(self) -> str:
        """The name of who does it: ``driver``, ``process`` or ``child``."""
        if self.verb in ("ioremap", "memremap", "set_memory", "reserve_wc", "release"):
            return "driver"
        return "child" if self.child else "process"


@shown_in_hexadecimal("edges")
@dataclass(frozen=True)
class Board:
    """The memory of a reproducer, cut into cells where messages, and operations, begin and end.

    A cell is as large as it has to be in the guest, and one page in the model.

    :param edges: Addresses; cell n is from edge n to the next one.
    :param ram: For each cell, whether it is RAM.
    :param write_back: For each cell, whether the MTRRs say write-back of it.
    """

    edges: tuple[int, ...]
    ram: tuple[bool, ...]
    write_back: tuple[bool, ...]

    @property
    def cells(self) -> int:
        """The number of cells."""
        return len(self.edges) - 1

    @cached_property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """The ranges of its cells, those of the fewest bytes first."""
        every = itertools.combinations(range(len(self.edges)), 2)
        return tuple(sorted(every, key=lambda each: self.edges[each[1]] - self.edges[each[0]]))

    def bytes_of(self, first: int, end: int) -> tuple[int, int]:
        """Address and size in bytes of the cells from ``first`` up to, and without, ``end``."""
        return self.edges[first], self.edges[end] - self.edges[first]

    def cells_of(self, start: int, end: int) -> tuple[int, int] | None:
        """The cells from one address up to, and without, another; None where no cell begins or ends there."""
        try:
            return self.edges.index(start), self.edges.index(end)
        except ValueError:
            return None
