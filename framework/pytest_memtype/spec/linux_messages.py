"""The messages that Linux logs about memory types, as the model says them.

The texts differ from version to version; what they say doesn't: a kind, a range and types.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal
from pytest_memtype.x86.memtype import MemType


class Event(enum.Enum):
    """The kinds of messages, each with the function that logs it."""

    CONFLICTING_TYPES = "conflicting memory types"
    """memtype_check_conflict(), arch/x86/mm/pat/memtype_interval.c."""
    RESERVE_FAILED = "memtype_reserve failed"
    """memtype_reserve(), arch/x86/mm/pat/memtype.c."""
    RAM_RESERVE_FAILED = "reserve_ram_pages_type failed"
    """reserve_ram_pages_type(), the same file."""
    FREEING_INVALID = "freeing invalid memtype"
    """memtype_free(), the same file."""
    USER_REFUSED = "map pfn expected mapping type"
    """reserve_pfn_range(), the same file; pfnmap_track() and its callers since 6.16."""
    USER_RAM = "map pfn RAM range req"
    """reserve_pfn_range(), the same file."""
    IOREMAP_REFUSED = "ioremap error"
    """__ioremap_caller(), arch/x86/mm/ioremap.c."""
    IOREMAP_FAILED = "ioremap memtype_reserve failed"
    """The same function; no range."""
    IOREMAP_ON_RAM = "ioremap on RAM"
    """The same function; a WARN_ONCE()."""
    MEMREMAP_ON_RAM = "memremap attempted on ram"
    """memremap(), kernel/iomem.c; a WARN_ONCE(), without a range in most versions."""
    MEMREMAP_MIXED = "memremap attempted on mixed range"
    """The same function; a WARN_ONCE()."""
    NO_FIRST_PAGE = "get_pat_info"
    """A WARN_ON_ONCE() where the type of a VMA is read from its first page, and that isn't there.

    It is in get_pat_info(), before that in track_pfn_copy() and untrack_pfn()."""
    UNCACHED_RAM = "reserve_ram_pages_type"
    """A WARN_ON_ONCE() for UC of RAM in that function."""


@shown_in_hexadecimal("first", "end")
@dataclass(frozen=True)
class Message:
    """A message of the modelled kernel.

    :param first: Number of the first page frame that it names; None where it names none.
    :param end: Number of the page frame behind the last.
    :param asked: The type that it says was asked for.
    :param held: The types that it says are in use.
    """

    event: Event
    first: int | None = None
    end: int | None = None
    asked: MemType | None = None
    held: tuple[MemType, ...] = ()
