"""Where in Linux a message comes from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pytest_memtype.dumps.facts import Kind

_MEMTYPE: Final = "arch/x86/mm/pat/memtype.c"
_MTRR: Final = "arch/x86/kernel/cpu/mtrr/mtrr.c"
_CLEANUP: Final = "arch/x86/kernel/cpu/mtrr/cleanup.c"

_SOURCES: Final = {
    Kind.CONFLICTING_TYPES: "memtype_check_conflict() of arch/x86/mm/pat/memtype_interval.c",
    Kind.RESERVE_FAILED: f"memtype_reserve() of {_MEMTYPE}",
    Kind.RAM_RESERVE_FAILED: f"reserve_ram_pages_type() of {_MEMTYPE}",
    Kind.FREEING_INVALID: f"memtype_free() of {_MEMTYPE}",
    Kind.USER_REFUSED: f"reserve_pfn_range() of {_MEMTYPE}",
    Kind.USER_RAM: f"reserve_pfn_range() of {_MEMTYPE}",
    Kind.IOREMAP_REFUSED: "__ioremap_caller() of arch/x86/mm/ioremap.c",
    Kind.IOREMAP_FAILED: "__ioremap_caller() of arch/x86/mm/ioremap.c",
    Kind.IOREMAP_ON_RAM: "__ioremap_caller() of arch/x86/mm/ioremap.c",
    Kind.MEMREMAP_ON_RAM: "memremap() of kernel/iomem.c",
    Kind.MTRR_MISMATCH: f"mtrr_add_page() of {_MTRR}",
    Kind.MTRR_OVERLAP: f"mtrr_add_page() of {_MTRR}",
    Kind.MTRR_FULL: f"mtrr_add_page() of {_MTRR}",
    Kind.MTRR_UNALIGNED: "generic_validate_add_page() of arch/x86/kernel/cpu/mtrr/generic.c",
    Kind.MTRR_INCONSISTENT: "mtrr_state_warn() of arch/x86/kernel/cpu/mtrr/generic.c",
    Kind.MTRR_CLEANUP_FAILED: f"mtrr_cleanup() of {_CLEANUP}",
    Kind.MTRR_CLEANED: f"mtrr_cleanup() of {_CLEANUP}",
    Kind.MTRR_LOSES_RAM: f"mtrr_trim_uncached_memory() of {_CLEANUP}",
    Kind.MTRR_BLANK: f"mtrr_trim_uncached_memory() of {_CLEANUP}",
    Kind.PAT_SKIPPED: f"pat_disable() of {_MEMTYPE}, by mtrr_bp_init() of {_MTRR}",
    Kind.PAT_DISABLED: f"pat_disable() of {_MEMTYPE}",
    Kind.PAT_ABSENT: f"pat_bp_init() of {_MEMTYPE}",
    Kind.WARNING: f"get_pat_info() of {_MEMTYPE}",
}


def sources(kinds: Iterable[Kind]) -> list[str]:
    """The functions of Linux that log some messages, with their files, as of 5.10 and later."""
    return list(dict.fromkeys(_SOURCES[kind] for kind in kinds if kind in _SOURCES))
