"""The audit of a guest whose memory and device state were saved in files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from pytest_memtype.audit.audit import Audit, audit
from pytest_memtype.audit.processors import Processors
from pytest_memtype.audit.ram import RamFile
from pytest_memtype.audit.roots import find_roots
from pytest_memtype.errors import DeviceStateError, UsageError
from pytest_memtype.host.files import opened, read_file
from pytest_memtype.machine.device_state import LARGEST_STATE, CpuShape, described_cpus, read_cpus, shape_of
from pytest_memtype.machine.hardware import HIGH_START, MIB, RamRange, ram_ranges
from pytest_memtype.machine.memory_map import Kind, Owner
from pytest_memtype.machine.program import installed
from pytest_memtype.machine.qemu_versions import QEMU
from pytest_memtype.machine.vcpu_registers import learned_shape
from pytest_memtype.x86.effective import Vendor

#: Name of the section of i440fx's host bridge (QEMU 7.2, hw/pci-host/i440fx.c, vmstate_i440fx).
_I440FX: Final = b"0000:00:00.0/I440FX"
#: i440fx has other limits than q35 (hw/i386/pc_piix.c, pc_init1()).
_I440FX_SPLIT_FROM: Final = 3584 * MIB
_I440FX_LOW_WHEN_SPLIT: Final = 3072 * MIB


def audit_files(ram: Path, state: Path, *, vendor: Vendor, physical_bits: int) -> Audit:
    """Audit a guest whose RAM and device state were saved in files.

    :param ram: The guest's RAM, as a ``memory-backend-file`` has it; see :func:`ranges_of`.
    :param state: What ``migrate`` or ``xen-save-devices-state`` wrote; the latter by the QEMU that is
        installed.
    :param vendor: The CPU's vendor, which the state doesn't hold.
    :param physical_bits: MAXPHYADDR, the bits of a physical address, which the state doesn't hold either.
    :raises UsageError: a file can't be read, or isn't what it should be.
    :raises HostError: the state doesn't describe itself, and QEMU isn't installed.
    """
    saved = read_file(state, most=LARGEST_STATE)
    with opened(ram, most=1 << physical_bits) as file:
        size = os.fstat(file.fileno()).st_size
    try:
        processors = Processors(read_cpus(saved, _shape(saved), cpus=_cpus(saved)), vendor, physical_bits)
    except DeviceStateError as error:
        raise UsageError(f"{state}: {error}") from None
    ranges = ranges_of(saved, size)
    memory = RamFile(ram, ranges)
    owners = (
        Owner(0, 0xA0000, Kind.RAM, "RAM"),
        *(Owner(max(each.start, 1 << 20), each.start + each.size, Kind.RAM, "RAM") for each in ranges),
    )
    return audit(memory, processors, find_roots(memory, processors.roots), owners=owners)


def ranges_of(state: bytes, size: int) -> tuple[RamRange, ...]:
    """The ranges in which a saved guest has its RAM, by address, unless it was given ``max-ram-below-4g``.

    :param state: The guest's device state.
    :param size: Bytes of its RAM.
    """
    if _I440FX not in state:
        return ram_ranges(size)
    if size < _I440FX_SPLIT_FROM:
        return (RamRange(0, size, 0),)
    low = _I440FX_LOW_WHEN_SPLIT
    return (RamRange(0, low, 0), RamRange(HIGH_START, size - low, low))


def _cpus(saved: bytes) -> int | None:
    try:
        return described_cpus(saved)
    except DeviceStateError:
        return None


def _shape(saved: bytes) -> CpuShape:
    try:
        return shape_of(saved)
    except DeviceStateError:
        if not saved.startswith(b"QEVM"):
            raise
        return learned_shape(installed(QEMU))
