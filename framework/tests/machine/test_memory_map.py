"""The map of memory is the machine's: against what QEMU and a booted kernel say of one."""

from __future__ import annotations

import re

import pytest

from pytest_memtype import Guest
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.memory_map import Kind, owners

# What QEMU 7.2 calls the regions of "info mtree -f", and whose they are here.
REGIONS = {
    "ram": {Kind.RAM, Kind.FIRMWARE, Kind.ISA_HOLE},  # the ISA hole below is RAM for system management
    "pcie-mmcfg-mmio": {Kind.CHIPSET},
    "bochs-display-vram": {Kind.BAR},
    "bochs-display-mmio": {Kind.BAR},
    "edid": {Kind.BAR},
    "bochs dispi interface": {Kind.BAR},
    "qemu extended regs": {Kind.BAR},
    "ahci": {Kind.BAR},
    "ioapic": {Kind.CHIPSET},
    "hpet": {Kind.CHIPSET},
    "lpc-rcrb-mmio": {Kind.CHIPSET},
    "apic-msi": {Kind.CHIPSET},
    "pc.bios": {Kind.FIRMWARE},
}


def test_no_gaps() -> None:
    for hardware in (
        Hardware(),
        Hardware(memory="2G", cpu="qemu64,phys-bits=36"),
        Hardware(memory="4G"),
        Hardware(display="VGA"),
        Hardware(memory="62G", cpu="qemu64,phys-bits=36"),
    ):
        found = owners(hardware)
        assert [each.start for each in found] == [0, *(each.end for each in found[:-1])]
        assert found[-1].end == 1 << hardware.physical_bits


@pytest.mark.parametrize(
    "memory", [pytest.param(size, marks=pytest.mark.hardware(memory=size)) for size in ("256M", "2816M")]
)
def test_as_in_a_guest(guest: Guest, memory: str) -> None:
    assert guest.hardware.memory == memory
    tree = guest.qmp.execute("human-monitor-command", {"command-line": "info mtree -f"})
    (view,) = (part for part in tree.split("FlatView #") if '"cpu-memory-0"' in part)
    regions = [
        (int(start, 16), int(end, 16), name.strip())
        for start, end, name in re.findall(r"([0-9a-f]{16})-([0-9a-f]{16}) \(prio.*?\): ([^@\r\n]*)", view)
    ]
    assert len(regions) > 10
    assert {name for _, _, name in regions} == REGIONS.keys()
    map_of_guest = owners(guest.hardware)
    for start, end, name in regions:
        for address in (start, end):
            (owner,) = (each for each in map_of_guest if each.start <= address < each.end)
            assert owner.kind in REGIONS[name], f"{address:#x} is {name}"
    # And the other way round: whatever has an owner is some region's.
    for owner in map_of_guest:
        if owner.kind not in (Kind.NOBODY, Kind.PCI_HOLE):
            assert any(start <= owner.start <= end for start, end, _ in regions), owner
