"""MTRR and PAT combined: the effective memory type, and which two of them may not meet on a page."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType

from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import MTRR_TYPES, UNDEFINED, MtrrType


class Vendor(enum.Enum):
    """Whose table applies; the value is the vendor string of CPUID leaf 0."""

    INTEL = "GenuineIntel"
    AMD = "AuthenticAMD"


class EffectiveType(enum.Enum):
    """What a memory access is done as.

    ``CD`` ("cache disable") is AMD's name for uncached accesses that still probe the caches. Intel's
    tables say UC for it, with the note that the caches must be checked.
    """

    UC = "UC"
    CD = "CD"
    WC = "WC"
    WT = "WT"
    WP = "WP"
    WB = "WB"
    UNDEFINED = "undefined"

    def __str__(self) -> str:
        return self.value


class Danger(enum.IntEnum):
    """How bad it is to have two effective types on one page; a greater value is worse.

    The manuals only say "not supported" and "never"; the grading is this project's.
    """

    OK = 0
    INFO = 1
    """No cached copy can exist: ordering and combining differ only."""
    WARNING = 2
    """Both are cacheable."""
    ERROR = 3
    """Uncached accesses pass by a cached copy."""
    FATAL = 4
    """Combined writes don't check the caches: stale lines may be written back over them."""


_PAT_COLUMNS = (MemType.UC, MemType.UC_MINUS, MemType.WC, MemType.WT, MemType.WP, MemType.WB)


def _table(text: str) -> Mapping[tuple[MemType, MemType], EffectiveType]:
    cells = {}
    for line in text.strip().splitlines():
        row, *row_cells = line.split()
        for column, cell in zip(_PAT_COLUMNS, row_cells, strict=True):
            cells[MemType[row], column] = EffectiveType[cell]
    return MappingProxyType(cells)


# Intel SDM vol. 3, "Effective Page-Level Memory Types for Pentium III and More Recent Processor
# Families". Cell by cell the same in Xen's mm_type_tbl (xen/arch/x86/hvm/mtrr.c) and BitVisor's
# pat_mtrr_matrix (core/cache.c). Linux' Documentation/arch/x86/pat.rst has WC x UC- as UC, and
# Bochs has WT x WP as WT and WP x UC- as UC: both stand alone with that.
INTEL_TABLE = _table(
    # PAT  UC  UC- WC  WT  WP  WB
    """
    UC     UC  UC  WC  UC  UC  UC
    WC     UC  WC  WC  UC  UC  WC
    WT     UC  UC  WC  WT  WP  WT
    WP     UC  WC  WC  WT  WP  WP
    WB     UC  UC  WC  WT  WP  WB
    """
)

# AMD APM vol. 2 (24593), "Combined Effect of MTRRs and PAT". With CD taken as UC it differs from
# Intel's in WT x WP, WP x UC- and WP x WT only; BitVisor marks the same three cells. Where it says
# CD and where UC hasn't been compared with the printed table.
AMD_TABLE = _table(
    # PAT  UC  UC- WC  WT  WP  WB
    """
    UC     UC  UC  WC  UC  UC  UC
    WC     CD  WC  WC  CD  CD  WC
    WT     CD  CD  WC  WT  CD  WT
    WP     CD  CD  WC  CD  WP  WP
    WB     CD  CD  WC  WT  WP  WB
    """
)

_TABLES = {Vendor.INTEL: INTEL_TABLE, Vendor.AMD: AMD_TABLE}


def vendor_from_cpuid(text: str) -> Vendor:
    """The vendor named by the 12 characters of CPUID leaf 0.

    :raises ValueError: No table is known for that vendor.
    """
    # Hygon's CPUs are AMD's Zen, and Linux (4.20 and newer) treats their MTRRs as AMD's.
    if text == "HygonGenuine":
        return Vendor.AMD
    try:
        return Vendor(text)
    except ValueError:
        known = ", ".join(vendor.value for vendor in Vendor)
        raise ValueError(
            f"no table of effective memory types for CPU vendor {text!r}; known are {known}"
        ) from None


def effective_type(mtrr: MtrrType, pat_type: MemType, vendor: Vendor) -> EffectiveType:
    """The effective type of an access, with caching on (CR0.CD = 0).

    :param mtrr: What :func:`pytest_memtype.x86.mtrr.memory_type_at` says of the address.
    :param pat_type: The page attribute of the mapping.
    :returns: ``UNDEFINED`` where the MTRRs are, whatever the page attribute.
    :raises ValueError: ``mtrr`` is UC-, which is no MTRR type.
    """
    if mtrr is UNDEFINED:
        return EffectiveType.UNDEFINED
    if mtrr not in MTRR_TYPES:
        raise ValueError(f"{mtrr} isn't an MTRR memory type")
    return _TABLES[vendor][mtrr, pat_type]


# Intel SDM vol. 3, "Programming the PAT": two types on one page are not supported, and "a WC page
# must never be aliased to a cacheable page"; note to the table of effective types: UC by page table
# must check the caches "because the data may be cached due to page aliasing, which is not
# recommended". AMD APM vol. 2, ch. 7: all mappings of a page must be cacheable, or none.
_DEFINED = (EffectiveType.UC, EffectiveType.WC, EffectiveType.WT, EffectiveType.WP, EffectiveType.WB)
_CACHEABLE = frozenset({EffectiveType.WT, EffectiveType.WP, EffectiveType.WB})


def danger(a: EffectiveType, b: EffectiveType) -> Danger:
    """How bad it is when one page is mapped with both types; the order doesn't matter.

    CD counts as UC. ``UNDEFINED`` counts as the worst it may turn out to be.
    """
    if a is EffectiveType.UNDEFINED:
        return max(danger(defined, b) for defined in _DEFINED)
    if b is EffectiveType.UNDEFINED:
        return danger(b, a)
    pair = {EffectiveType.UC if each is EffectiveType.CD else each for each in (a, b)}
    if len(pair) == 1:
        return Danger.OK
    if pair <= _CACHEABLE:
        return Danger.WARNING
    if not pair & _CACHEABLE:
        return Danger.INFO
    return Danger.FATAL if EffectiveType.WC in pair else Danger.ERROR
