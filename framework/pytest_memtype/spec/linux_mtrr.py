"""Requests for MTRRs in Linux: ``mtrr_add_page()``, the same from 5.10 to 7.3.

Its source is arch/x86/kernel/cpu/mtrr/mtrr.c.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal
from pytest_memtype.x86.memtype import MemType


class MtrrEvent(enum.Enum):
    """The messages about a request for a register, each with the function that logs it."""

    MTRR_MISMATCH = "type mismatch"
    """mtrr_add_page()."""
    MTRR_OVERLAP = "overlaps existing"
    """The same."""
    MTRR_FULL = "no more MTRRs available"
    """The same."""
    MTRR_UNALIGNED = "is not aligned on a size boundary"
    """generic_validate_add_page(), arch/x86/kernel/cpu/mtrr/generic.c."""


@shown_in_hexadecimal("base", "size")
@dataclass(frozen=True)
class Range:
    """A range of a register.

    :param base: Its first address.
    :param size: Bytes.
    """

    base: int
    size: int
    memtype: MemType

    @property
    def last(self) -> int:
        """The last address of the range."""
        return self.base + self.size - 1


@dataclass(frozen=True)
class MtrrMessage:
    """A message about a request.

    :param request: The request.
    :param present: The register that is in its way; None where there is none.
    """

    event: MtrrEvent
    request: Range
    present: Range | None = None


def add(registers: list[Range | None], request: Range) -> MtrrMessage | None:
    """Add a range to the registers, as the kernel does; returns what it logs instead.

    :param registers: The variable registers in order, None for those that are free. They are changed.
    :param request: The range that is asked for.
    """
    size = request.size
    if size & (size - 1) or request.base % size:
        return MtrrMessage(MtrrEvent.MTRR_UNALIGNED, request)
    replaced: int | None = None
    several = False
    for number, present in enumerate(registers):
        if present is None or request.base > present.last or request.last < present.base:
            continue
        if request.base < present.base or request.last > present.last:
            encloses = request.base <= present.base and request.last >= present.last
            if encloses and request.memtype is present.memtype:
                several = replaced is not None
                replaced = number
                continue
            if encloses and _compatible(request.memtype, present.memtype):
                continue
            return MtrrMessage(MtrrEvent.MTRR_OVERLAP, request, present)
        if request.memtype is not present.memtype:
            if _compatible(request.memtype, present.memtype):
                continue
            return MtrrMessage(MtrrEvent.MTRR_MISMATCH, request, present)
        # It is counted once more.
        return None
    free = next((number for number, each in enumerate(registers) if each is None), None)
    place = replaced if replaced is not None and not several else free
    if place is None:
        return MtrrMessage(MtrrEvent.MTRR_FULL, request)
    registers[place] = request
    return None


def _compatible(one: MemType, other: MemType) -> bool:
    """``types_compatible()``."""
    return MemType.UC in (one, other) or {one, other} == {MemType.WT, MemType.WB}
