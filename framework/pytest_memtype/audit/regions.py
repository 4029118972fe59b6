"""The regions of Linux's virtual addresses: the direct map, vmalloc, modules and so on.

Fixed places are those of Documentation/arch/x86/x86_64/mm.rst. Address space randomisation moves three, but
keeps their order (arch/x86/mm/kaslr.c, kaslr_regions: direct map, vmalloc, vmemmap), and each begins in a
512 GiB unit of its own, so that the used units tell which is which.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Final

import numpy as np

from pytest_memtype.audit.ram import ENTRIES
from pytest_memtype.audit.reverse import canonical
from pytest_memtype.audit.walk import Walk
from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal

USER: Final = "user"
#: The page tables for waking CPUs: their first 512 GiB are the direct map's, at physical addresses
#: (arch/x86/realmode/init.c, setup_real_mode(), trampoline_pgd; 5.10 to 7.3).
IDENTITY_MAP: Final = "identity map"
DIRECT_MAP: Final = "direct map"
VMALLOC: Final = "vmalloc"
VMEMMAP: Final = "vmemmap"
FIXMAP: Final = "fixmap"
KERNEL_IMAGE: Final = "kernel image"
MODULE: Final = "module"

_UNIT: Final = 1 << 39
#: Entries of the highest of five levels that are looked at: those of 32 roots that share nothing.
_MOST: Final = 1 << 14
_KERNEL_HALF: Final = 1 << 63

# (start, name), ascending. CONFIG_RANDOMIZE_BASE gives the image 1 GiB, randomised or not.
_FIXED: Final = (
    (0xFFFFFE0000000000, "CPU entry area"),
    (0xFFFFFE8000000000, "kernel"),
    (0xFFFFFF0000000000, "espfix"),
    (0xFFFFFF8000000000, "kernel"),
    (0xFFFFFFEF00000000, "EFI"),
    (0xFFFFFFFF00000000, "kernel"),
    (0xFFFFFFFF80000000, KERNEL_IMAGE),
    (0xFFFFFFFFC0000000, MODULE),
    (0xFFFFFFFFFF000000, FIXMAP),
)
# The LDT's place under page-table isolation (LDT_BASE_ADDR), a unit of its own below the direct map; with
# five levels 256 of them.
_LDT: Final = {4: range(0xFFFF880000000000, 0xFFFF888000000000), 5: range(0xFF10 << 48, 0xFF11 << 48)}


@shown_in_hexadecimal("direct_map", "vmalloc", "vmemmap")
@dataclass(frozen=True)
class Regions:
    """The regions that randomisation moves, by the virtual address of their first 512 GiB unit.

    :param depth: Levels of the page tables, 4 or 5.
    :param direct_map: Where the direct map begins; None where there is none, as for the other two.
    """

    depth: int
    direct_map: int | None
    vmalloc: int | None
    vmemmap: int | None

    def name(self, virtual: int) -> str:
        """The name of the region that a virtual address is in."""
        if virtual < _KERNEL_HALF:
            return USER
        if virtual >= _FIXED[0][0]:
            return next(name for start, name in reversed(_FIXED) if virtual >= start)
        if virtual in _LDT[self.depth]:
            return "LDT"
        for start, name in (
            (self.vmemmap, VMEMMAP),
            (self.vmalloc, VMALLOC),
            (self.direct_map, DIRECT_MAP),
        ):
            if start is not None and virtual >= start:
                return name
        return "kernel"


def regions(walk: Walk) -> Regions:
    """Find the regions that move, by the page tables."""
    ldt = _LDT[walk.depth]
    used = [unit for unit in _units(walk) if _KERNEL_HALF <= unit < _FIXED[0][0] and unit not in ldt]
    if not used:
        return Regions(walk.depth, None, None, None)
    # A direct map of more than 512 GiB goes on in the next unit; vmalloc keeps at least one unit's distance
    # of what memory there could be (CONFIG_RANDOMIZE_MEMORY_PHYSICAL_PADDING), or starts there.
    continued = _continued(used)
    between = [unit for unit in used[1:-1] if unit > continued]
    return Regions(
        walk.depth,
        direct_map=used[0],
        vmalloc=between[0] if between else None,
        vmemmap=used[-1] if len(used) > 1 else None,
    )


def _continued(used: list[int]) -> int:
    """The last unit that is reached from the first without a gap; -1 if fewer than two come after it.

    Two are needed, for vmalloc and vmemmap.
    """
    run = 0
    while run + 1 < len(used) and used[run + 1] == used[run] + _UNIT:
        run += 1
    return used[run] if run < len(used) - 2 else -1


def _units(walk: Walk) -> list[int]:
    """The virtual addresses of the 512 GiB units with anything in them, ascending."""
    below = walk.levels[3]
    if walk.depth == 4:
        return sorted(canonical(slot << 39, 4) for slot in np.unique(below.slot).tolist())
    above = walk.levels[4]
    # (table, slot): a table of the fourth level may be at several places, such as in each address space.
    high = np.unique(above.child * ENTRIES + above.slot)
    low = np.unique(below.parent * ENTRIES + below.slot)
    used = np.zeros((ENTRIES, ENTRIES), np.bool_)
    for table, slot in itertools.islice(
        zip((high // ENTRIES).tolist(), (high % ENTRIES).tolist(), strict=True), _MOST
    ):
        first, end = np.searchsorted(low, (table * ENTRIES, (table + 1) * ENTRIES))
        used[slot, low[first:end] % ENTRIES] = True
    return sorted(canonical(int(high) << 48 | int(low) << 39, 5) for high, low in np.argwhere(used))
