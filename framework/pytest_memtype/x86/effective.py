"""MTRR and PAT combined: the effective memory type, and which two of them may not meet on a page."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import MTRR_TYPES, UNDEFINED, MtrrType


class Vendor(enum.Enum):
    """A maker of CPUs, whose table applies; the value is the vendor string of CPUID leaf 0."""

    INTEL = "GenuineIntel"
    AMD = "AuthenticAMD"


class _WithMemTypes(enum.EnumMeta):
    """Treats those of an enumeration's names that are memory types as its own members, which come behind."""

    def __iter__(cls) -> Iterator[Any]:
        yield from _all_shared(cls)
        yield from super().__iter__()

    def __reversed__(cls) -> Iterator[Any]:
        yield from reversed([*cls])

    def __len__(cls) -> int:
        return len(_all_shared(cls)) + super().__len__()

    def __contains__(cls, value: object) -> bool:
        return any(value is each for each in cls)

    @property
    def __members__(cls) -> MappingProxyType[str, Any]:
        return MappingProxyType({each.name: each for each in cls})

    def __call__(cls, value: Any, *args: Any, **kwargs: Any) -> Any:
        shared = _shared(cls, value)
        return super().__call__(value, *args, **kwargs) if shared is None else shared

    def __getitem__(cls, name: str) -> Any:
        shared = _shared(cls, name)
        return super().__getitem__(name) if shared is None else shared


def _all_shared(cls: type) -> list[MemType]:
    return [each for each in vars(cls).values() if isinstance(each, MemType)]


def _shared(cls: type, name: object) -> MemType | None:
    found = vars(cls).get(name) if isinstance(name, str) else None
    return found if isinstance(found, MemType) else None


class EffectiveType(enum.Enum, metaclass=_WithMemTypes):
    """The effective types; those that page attributes or MTRRs have too are :class:`MemType`'s own members.

    ``EffectiveType.WB is MemType.WB``, so that an effective type can be compared with either; iterating over
    the class gives all of them. ``CD`` ("cache
    disable") is AMD's name for uncached accesses that still probe the caches. Intel's tables say UC for it,
    with the note that the caches must be checked.
    """

    UC = enum.nonmember(MemType.UC)
    WC = enum.nonmember(MemType.WC)
    WT = enum.nonmember(MemType.WT)
    WP = enum.nonmember(MemType.WP)
    WB = enum.nonmember(MemType.WB)
    CD = "CD"
    UNDEFINED = "undefined"
    """MTRRs overlap in a way that the manuals leave undefined."""
    ALIASED = "aliased"
    """Mappings of one page have several effective types; :meth:`Guest.effective` alone says so."""

    def __str__(self) -> str:
        return self.value


Effective: TypeAlias = MemType | EffectiveType
"""The type that a memory access is done as: any :class:`MemType` but UC-, or an :class:`EffectiveType`."""

EFFECTIVE_TYPES: Final[tuple[Effective, ...]] = (
    EffectiveType.UC,
    EffectiveType.CD,
    EffectiveType.WC,
    EffectiveType.WT,
    EffectiveType.WP,
    EffectiveType.WB,
    EffectiveType.UNDEFINED,
)
"""What an access through one mapping can be done as."""


def effective_code(effective: Effective) -> int:
    """The number of an effective type in arrays and bit masks: its index in :data:`EFFECTIVE_TYPES`.

    :param effective: The type.
    :raises ValueError: No access is done as that: UC-, or ``ALIASED``.
    """
    return EFFECTIVE_TYPES.index(effective)


class Severity(enum.IntEnum):
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


def _table(text: str) -> Mapping[tuple[MemType, MemType], Effective]:
    cells = {}
    for line in text.strip().splitlines():
        row, *row_cells = line.split()
        for column, cell in zip(_PAT_COLUMNS, row_cells, strict=True):
            cells[MemType[row], column] = getattr(EffectiveType, cell)
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

    :param text: The 12 characters.
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


def effective_type(mtrr: MtrrType, pat_type: MemType, vendor: Vendor) -> Effective:
    """The effective type of an access, with caching on (CR0.CD = 0).

    :param mtrr: What :func:`pytest_memtype.x86.mtrr.memory_type_at` says of the address.
    :param pat_type: The page attribute of the mapping.
    :param vendor: The CPU's maker.
    :returns: ``UNDEFINED`` where the MTRRs are, whatever the page attribute.
    :raises ValueError: UC- is no MTRR type.
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
_UNCACHED_ALIAS = "uncached accesses pass by the copy that the cacheable mapping leaves in a cache"
_COMBINED_ALIAS = (
    "combined writes don't check the caches: a line that the cacheable mapping brought in, be it by "
    "speculation, may be written back over them"
)
_DANGERS: Mapping[frozenset[Effective], tuple[Severity, str]] = {
    frozenset({EffectiveType.UC, EffectiveType.CD}): (Severity.OK, "both are uncached"),
    **{
        frozenset({uncached, EffectiveType.WC}): (
            Severity.INFO,
            "no cache holds a copy; they differ in the order and the combining of writes",
        )
        for uncached in (EffectiveType.UC, EffectiveType.CD)
    },
    frozenset({EffectiveType.WT, EffectiveType.WB}): (
        Severity.WARNING,
        "both are cacheable; what is written through the one reaches memory at once, through the other late",
    ),
    **{
        frozenset({EffectiveType.WP, cached}): (
            Severity.WARNING,
            "both are cacheable; a write through WP goes to memory and drops the line from all caches",
        )
        for cached in (EffectiveType.WT, EffectiveType.WB)
    },
    **{
        frozenset({uncached, cached}): (Severity.ERROR, _UNCACHED_ALIAS)
        for uncached in (EffectiveType.UC, EffectiveType.CD)
        for cached in (EffectiveType.WT, EffectiveType.WP, EffectiveType.WB)
    },
    **{
        frozenset({EffectiveType.WC, cached}): (Severity.FATAL, _COMBINED_ALIAS)
        for cached in (EffectiveType.WT, EffectiveType.WP, EffectiveType.WB)
    },
}


def danger(a: Effective, b: Effective) -> Severity:
    """How bad it is when one page is mapped with both types; the order doesn't matter.

    CD counts as UC. ``UNDEFINED`` counts as the worst it may turn out to be.

    :param a: The type of one mapping.
    :param b: The type of another.
    :raises ValueError: No access is done as one of them: UC-, or ``ALIASED``.
    """
    return _graded(a, b)[0]


def danger_reason(a: Effective, b: Effective) -> str:
    """Why two effective types on one page are as dangerous as :func:`danger` says, as half a sentence."""
    return _graded(a, b)[1]


def _graded(a: Effective, b: Effective) -> tuple[Severity, str]:
    for each in (a, b):
        if each not in EFFECTIVE_TYPES:
            raise ValueError(f"{each} isn't a type that one access is done as")
    if a is EffectiveType.UNDEFINED:
        worst, reason = max(_graded(defined, b) for defined in EFFECTIVE_TYPES[:-1])
        return worst, f"{a} may turn out to be any type: {reason}"
    if b is EffectiveType.UNDEFINED:
        return _graded(b, a)
    if a is b:
        return Severity.OK, "both are the same"
    return _DANGERS[frozenset({a, b})]
