"""The owner of each physical address of a guest: RAM, a device, the firmware, nobody.

QEMU's q35 with SeaBIOS and the devices of :mod:`pytest_memtype.machine.qemu_command`; OVMF has PCI devices
elsewhere. A test compares it with ``info mtree`` of a running guest.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from pytest_memtype.machine.hardware import Hardware, RamRange
from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal

_4G = 1 << 32

TEST_DEVICE_MEMORY: Final = "test device, BAR 0"
"""The name of the owner of the memory that tests map."""


class Kind(enum.Enum):
    """The kind of an owner of physical addresses."""

    RAM = "RAM"
    ISA_HOLE = "ISA hole"
    FIRMWARE = "firmware"
    PCI_HOLE = "PCI hole"
    BAR = "BAR"
    CHIPSET = "chipset"
    NOBODY = "nobody"

    def __str__(self) -> str:
        return self.value


@shown_in_hexadecimal("start", "end")
@dataclass(frozen=True)
class Owner:
    """The physical addresses from ``start`` up to, without, ``end`` that belong to one owner."""

    start: int
    end: int
    kind: Kind
    name: str


# QEMU 7.2 (hw/pci-host/q35.c, hw/isa/lpc_ich9.c, hw/i386/pc.c) and where SeaBIOS 1.16 puts PCI devices.
# There is no TSEG: SeaBIOS keeps its system-management code in the RAM behind the VGA window, which is
# closed to all other accesses. The 256 KiB of flash are the size of Debian's bios-256k.bin.
_BELOW_1M = (
    Owner(0x00000, 0xA0000, Kind.RAM, "RAM"),
    Owner(0xA0000, 0xC0000, Kind.ISA_HOLE, "VGA window; SMRAM behind it"),
    Owner(0xC0000, 0xF0000, Kind.FIRMWARE, "option ROMs, shadowed in RAM"),
    Owner(0xF0000, 0x100000, Kind.FIRMWARE, "BIOS, shadowed in RAM"),
)
_CONFIGURATION = (Owner(0xB0000000, 0xC0000000, Kind.CHIPSET, "PCI configuration (MMCONFIG)"),)
# SeaBIOS places BARs by size, so that one device more moves the others.
_WITH_A_DISPLAY = (Owner(0xC0000000, 0xFEC00000, Kind.PCI_HOLE, "PCI hole"),)
_DEVICES = (
    Owner(0xC0000000, 0xFD000000, Kind.PCI_HOLE, "PCI hole"),
    Owner(0xFD000000, 0xFE000000, Kind.BAR, TEST_DEVICE_MEMORY),
    Owner(0xFE000000, 0xFEBF8000, Kind.PCI_HOLE, "PCI hole"),
    Owner(0xFEBF8000, 0xFEBF9000, Kind.BAR, "test device, BAR 2"),
    Owner(0xFEBF9000, 0xFEBFA000, Kind.BAR, "AHCI"),
    Owner(0xFEBFA000, 0xFEC00000, Kind.PCI_HOLE, "PCI hole"),
)
_FIXED = (
    Owner(0xFEC00000, 0xFEC01000, Kind.CHIPSET, "IOAPIC"),
    Owner(0xFED00000, 0xFED01000, Kind.CHIPSET, "HPET"),
    Owner(0xFED1C000, 0xFED20000, Kind.CHIPSET, "root complex registers"),
    Owner(0xFEE00000, 0xFEF00000, Kind.CHIPSET, "local APIC, interrupt messages"),
    Owner(0xFFFC0000, _4G, Kind.FIRMWARE, "firmware flash"),
)


def owners(hardware: Hardware, plugged: Iterable[RamRange] = ()) -> tuple[Owner, ...]:
    """The owners of all physical addresses that the CPU has, ascending, without gaps.

    :param hardware: The guest's hardware.
    :param plugged: Memory that was plugged in while it ran. It lies above all that the guest began with.
    """
    low, *high = (Owner(each.start, each.start + each.size, Kind.RAM, "RAM") for each in hardware.ram)
    above_1m = replace(low, start=1 << 20)
    devices = _WITH_A_DISPLAY if hardware.display else _DEVICES
    more = sorted(
        (Owner(each.start, each.start + each.size, Kind.RAM, "RAM, plugged in") for each in plugged),
        key=lambda owner: owner.start,
    )
    known = (*_BELOW_1M, above_1m, *_CONFIGURATION, *devices, *_FIXED, *high, *more)
    return tuple(_without_gaps(known, end=1 << hardware.physical_bits))


def _without_gaps(known: tuple[Owner, ...], *, end: int) -> Iterator[Owner]:
    address = 0
    for owner in known:
        if address < owner.start:
            yield Owner(address, owner.start, Kind.NOBODY, "nobody")
        yield owner
        address = owner.end
    if address < end:
        yield Owner(address, end, Kind.NOBODY, "nobody")
