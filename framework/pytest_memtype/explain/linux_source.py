"""Where in Linux' source the rules are, by version: files were moved and functions renamed."""

from __future__ import annotations

from typing import Final

from pytest_memtype.dumps.facts import Kernel
from pytest_memtype.spec.linux_versions import Version

_MOVED: Version = (5, 6, 0)
"""arch/x86/mm/pat/ came with 5.6, and with it the names memtype_reserve() and memtype_free()."""

IOREMAP: Final = "arch/x86/mm/ioremap.c, __ioremap_caller()"
"""The function that all variants of ioremap end in."""


def check_conflict(kernel: Kernel | None) -> str:
    """The function that compares a request with the reservations that are there."""
    if kernel is None or kernel.version >= _MOVED:
        return "arch/x86/mm/pat/memtype_interval.c, memtype_check_conflict()"
    if kernel.version >= (5, 5, 0):
        return "arch/x86/mm/pat_interval.c, memtype_check_conflict()"
    if kernel.version >= (2, 6, 35):
        return "arch/x86/mm/pat_rbtree.c, memtype_rb_check_conflict()"
    return "arch/x86/mm/pat.c, chk_conflict()"


def in_memtype(kernel: Kernel | None, function: str) -> str:
    """A function of memtype.c, which was pat.c before 5.6."""
    if kernel is None or kernel.version >= _MOVED:
        return f"arch/x86/mm/pat/memtype.c, {function}()"
    old = {"memtype_reserve": "reserve_memtype", "memtype_free": "free_memtype"}
    return f"arch/x86/mm/pat.c, {old.get(function, function)}()"


def new_memtype_allowed(kernel: Kernel | None) -> str:
    """The pairs of types that may and may not stand in for each other."""
    if kernel is None:
        return "is_new_memtype_allowed(), arch/x86/include/asm"
    return "arch/x86/include/asm/pgtable.h, is_new_memtype_allowed()"


def memremap(kernel: Kernel | None) -> str:
    """The function that maps RAM or devices' memory with a type, for all architectures."""
    # 5981690ddb8f, "memremap: split devm_memremap_pages() and memremap() infrastructure", 4.18.
    newer = is_newer(kernel, 4, 18)
    if newer is None:
        return "kernel/iomem.c (kernel/memremap.c before 4.18), memremap()"
    return f"kernel/{'iomem' if newer else 'memremap'}.c, memremap()"


def is_newer(kernel: Kernel | None, *version: int) -> bool | None:
    """Whether a kernel is of a series, or a later one; None if it isn't known."""
    return None if kernel is None else kernel.version[: len(version)] >= version
