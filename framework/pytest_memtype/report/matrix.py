"""The matrix of requests over MTRR types: what was asked for, what was granted, what is effective."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_memtype.x86.effective import Effective, Vendor
from pytest_memtype.x86.memtype import MemType

MTRR_ROWS = (MemType.UC, MemType.WC, MemType.WT, MemType.WP, MemType.WB)
REQUESTED = (MemType.UC, MemType.UC_MINUS, MemType.WC, MemType.WT, MemType.WP, MemType.WB)
"""Rows and columns, in the order of the manuals' tables."""


@dataclass(frozen=True)
class Cell:
    """A request, and what came of it.

    :param mtrr: The type that the MTRRs of the guest give the memory.
    :param requested: The type that was asked for.
    :param granted: The type that the page table then held; None when the kernel refused, and so for
        ``effective``.
    :param effective: ``granted`` combined with ``mtrr``.
    :param manual: ``requested`` combined with ``mtrr`` by the manual of the CPU's vendor.
    """

    mtrr: MemType
    requested: MemType
    granted: MemType | None
    effective: Effective | None
    manual: Effective

    @property
    def differs(self) -> bool:
        """Does the access work in another way than the manual says of what was asked for?"""
        return self.effective is not self.manual


@dataclass(frozen=True)
class Matrix:
    """The requests that were made of a kernel in one way.

    :param way: ``ioremap``, or ``mmap`` of a process through a driver.
    :param cells: The requests, by row, then by column.
    """

    kernel: str
    vendor: Vendor
    way: str
    cells: tuple[Cell, ...]
