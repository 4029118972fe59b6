"""Page tables, CPUs and owners made by hand, for what no test kernel has.

Bits are those of Intel SDM vol. 3, "4-Level Paging and 5-Level Paging".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from memtype_support.naive_tables import ArrayRam
from pytest_memtype.audit.audit import Audit, audit
from pytest_memtype.audit.findings import Finding, FindingKind, Tracked
from pytest_memtype.audit.processors import Processors
from pytest_memtype.audit.roots import Root
from pytest_memtype.machine.device_state import CpuRegisters
from pytest_memtype.machine.memory_map import Kind, Owner
from pytest_memtype.x86.effective import Vendor
from pytest_memtype.x86.pat import RESET_PAT

#: Present and writable; of an entry above the last level, bit 7 makes a page of it.
POINTER, PAGE, LARGE = 3, 3, 3 | 1 << 7
#: PWT and PCD choose a slot of the PAT: as it is at reset WB, WT, UC- and UC.
WT, UC_MINUS, UC = 1 << 3, 1 << 4, 3 << 3
#: The first slot of the kernel's half.
KERNEL = 256

# SeaBIOS 1.16, src/fw/mtrr.c: RAM WB, the VGA window UC, ROMs WP.
SEABIOS_FIXED = (0x0606060606060606, 0x0606060606060606, 0, *(0x0505050505050505,) * 8)
MTRRS_ON, FIXED_ON = 1 << 11, 1 << 10
PHYSICAL_BITS = 40

#: RAM of a small PC, what firmware has below 1 MiB, and a device.
OWNERS = (
    Owner(0, 0xA0000, Kind.RAM, "RAM"),
    Owner(0xA0000, 0xC0000, Kind.ISA_HOLE, "VGA window"),
    Owner(0xC0000, 0x100000, Kind.FIRMWARE, "ROMs"),
    Owner(0x100000, 0x10000000, Kind.RAM, "RAM"),
    Owner(0xFD000000, 0xFE000000, Kind.BAR, "BAR 0"),
    Owner(0xFE000000, 0xFE001000, Kind.BAR, "BAR 1"),
)


def memory(entries: dict[tuple[int, int], int], frames: int = 64) -> ArrayRam:
    """RAM with these entries: (frame of the table, slot) to what is written there."""
    words = np.zeros((frames, 512), np.uint64)
    for (frame, slot), entry in entries.items():
        words[frame, slot] = entry
    return ArrayRam(words)


def chain(*tables: int, slots: Sequence[int] = (0, 0, 0)) -> dict[tuple[int, int], int]:
    """Entries by which each table leads to the next, the root first."""
    return {
        (above, slot): below << 12 | POINTER
        for above, below, slot in zip(tables, tables[1:], slots, strict=False)
    }


def pages(
    table: int, frames: Iterable[int], bits: int = 0, *, first_slot: int = 0
) -> dict[tuple[int, int], int]:
    """Entries of a last table that map frames in a row."""
    return {(table, first_slot + slot): frame << 12 | PAGE | bits for slot, frame in enumerate(frames)}


def cpu(
    number: int = 0,
    *,
    root: int = 1,
    pat: int = RESET_PAT,
    default_type: int = MTRRS_ON | FIXED_ON | 6,
    fixed: tuple[int, ...] = SEABIOS_FIXED,
    variable: Sequence[tuple[int, int]] = (),
    running: bool = True,
    five_levels: bool = False,
) -> CpuRegisters:
    """A CPU in 64-bit mode with paging on (CR0.PG, EFER.LMA)."""
    return CpuRegisters(
        number,
        cr0=1 << 31 if running else 0,
        cr3=root << 12,
        cr4=1 << 12 if five_levels else 0,
        efer=1 << 10 if running else 0,
        pat_value=pat,
        mtrr_default_type=default_type,
        mtrr_fixed=fixed,
        mtrr_variable=(*variable, *((0, 0),) * 8)[:8],
    )


def processors(*cpus: CpuRegisters, vendor: Vendor = Vendor.INTEL, has_mtrr: bool = True) -> Processors:
    """Those CPUs, or one as SeaBIOS leaves it."""
    return Processors(cpus or (cpu(),), vendor, PHYSICAL_BITS, has_mtrr)


def audited(
    entries: dict[tuple[int, int], int],
    *cpus: CpuRegisters,
    roots: Sequence[int] = (1,),
    frames: int = 64,
    tracked: Sequence[Tracked] | None = None,
    vendor: Vendor = Vendor.INTEL,
    has_mtrr: bool = True,
) -> Audit:
    """The audit of hand-made tables."""
    return audit(
        memory(entries, frames),
        processors(*cpus, vendor=vendor, has_mtrr=has_mtrr),
        [Root(each) for each in roots],
        owners=OWNERS,
        tracked=tracked,
    )


def of_kind(found: Audit, kind: FindingKind) -> list[Finding]:
    """Its findings of one kind."""
    return [each for each in found.findings if each.kind is kind]
