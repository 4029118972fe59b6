"""PCI devices of a test's own: their BARs, also in a second guest, and their drivers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_memtype import Hardware, MemType, Region
from pytest_memtype.errors import GuestError, Unavailable, UsageError
from pytest_memtype.guest.agent import Agent, Reply
from pytest_memtype.guest.guest import Guest
from pytest_memtype.guest.pci import Bar, pci_devices
from pytest_memtype.plugin.fixtures import GuestFactory
from pytest_memtype.target.dry_run import DryMachine

UC_MINUS, WC = MemType.UC_MINUS, MemType.WC
# docs/specs/edu.rst: the identification register is 0xRRrr00edu, of version 1.0.
EDU_IDENTIFICATION = 0x010000ED
DEVICES = (
    "edu",
    "pci-testdev,membar=64G",
    "ivshmem-plain,memdev=m,master=on",
)
OBJECTS = ("memory-backend-memfd,id=m,size=1M,share=off",)


def word(guest: Guest, bar: Bar) -> int:
    """The first register of a BAR, read by a process."""
    process = guest.process(f"reader-{bar.region.start:x}")
    mapping = process.mmap(bar.region[0], UC_MINUS, via="sysfs").mapping
    assert mapping is not None
    return process.read(mapping, 0)


def test_each_device_in_a_second_guest(guest_factory: GuestFactory) -> None:
    """A clone of a guest whose device isn't saved would read all ones."""
    hardware = Hardware(devices=DEVICES, objects=OBJECTS)
    for _ in range(2):
        guest: Guest = guest_factory(hardware=hardware)
        edu, testdev, shared = (guest.pci(each) for each in ("1234:11e8", "1b36:0005", "1af4:1110"))
        assert [(bar.number, bar.size, bar.prefetchable) for bar in edu.bars] == [(0, 1 << 20, False)]
        assert word(guest, edu.bars[0]) == EDU_IDENTIFICATION
        large = testdev.bars[-1]
        assert (large.size, large.bits64) == (64 << 30, True)
        assert large.region.start >= 1 << 32
        assert word(guest, testdev.bars[0]) != 0xFFFFFFFF
        # Its registers, then the memory, which nobody has written.
        assert word(guest, shared.bars[-1]) == 0
        assert guest.driver("x").ioremap(large.region[-4:], WC).accepted
        assert guest.mmio(pages=1).start == 0xFD000000


def test_sysfs_of_every_bar(guest: Guest) -> None:
    """The test device has a BAR of 4 KiB that isn't prefetchable: no resource2_wc."""
    memory, registers = guest.pci("1234:1111").bars
    assert (memory.number, memory.prefetchable, registers.number, registers.prefetchable) == (
        0,
        True,
        2,
        False,
    )
    process = guest.process("X")
    assert process.mmap(registers.region, UC_MINUS, via="sysfs").accepted
    missing = process.mmap(registers.region, WC, via="sysfs")
    # The verifier knows the process's own mapping; the file isn't there.
    assert missing.kernel.errno == 2
    assert process.mmap(memory.region[0:2], WC, via="sysfs").accepted
    with pytest.raises(GuestError, match="is in no PCI device's BAR"):
        process.mmap(guest.region(0x1000, 0x1000), UC_MINUS, via="sysfs")


@pytest.mark.hardware(devices=["ivshmem-plain,memdev=m,master=on"], objects=OBJECTS)
def test_a_device_that_is_saved_is_cloned(guest: Guest) -> None:
    assert guest.machine.config.ram_file is not None
    assert guest.pci("1af4:1110").bars[-1].prefetchable


@pytest.mark.hardware(devices=["edu"])
def test_a_guest_that_can_not_move(guest: Guest) -> None:
    assert guest.machine.config.ram_file is None
    with pytest.raises(
        Unavailable, match="moves the guest to another QEMU: QEMU doesn't save the state of edu"
    ):
        guest.change_registers(lambda cpu: replace(cpu, pat_value=0))
    assert guest.register_disagreements() == ()


@pytest.mark.hardware(devices=["nvme,serial=1"])
def test_a_guest_that_can_not_be_saved(guest: Guest) -> None:
    """QEMU 7.2 crashes when it is told to save an nvme all the same, and so did the audit."""
    with pytest.raises(Unavailable, match=r"registers hold: non-migratable device: 0000:00:02\.0/nvme"):
        guest.registers_outside()
    with pytest.raises(Unavailable, match="registers hold"):
        guest.audit()
    assert guest.pci("1b36:0010").driver == "nvme"
    (bar,) = guest.pci("1b36:0010").bars
    assert {each.granted for each in guest.observed() if each.region.overlaps(bar.region)} == {UC_MINUS}


def test_drivers_by_name(guest: Guest) -> None:
    bridge = guest.pci("8086:29c0")
    assert bridge.address == "0000:00:00.0"
    assert bridge.bars == ()
    assert bridge.driver is None
    with pytest.raises(GuestError, match="is bound to no driver"):
        bridge.unbind()
    with pytest.raises(GuestError, match="can't be bound to nosuch"):
        bridge.bind("nosuch")
    with pytest.raises(UsageError, match="the guest has no device 1234:5678; it has 8086:29c0, 1234:1111"):
        guest.pci("1234:5678")
    with pytest.raises(UsageError, match="is neither an id"):
        guest.pci("edu")


def test_a_bar_without_an_address_is_none(tmp_path: Path) -> None:
    """The kernel lists it from 0 on, where RAM is."""
    output = (
        "0000:00:02.0 0x1b36 0x0005 \n"
        "0x0000000000000000 0x0000000000000fff 0x0000000020040200\n"
        "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
        "0x00000000fd000000 0x00000000fd0000ff 0x0000000000040200\n"
    )

    def stub(verb: str, _fields: dict[str, str | int]) -> Reply:
        return Reply(verb, {"output": output}, ())

    (device,) = pci_devices(Agent(DryMachine(tmp_path, Hardware()), stub=stub))
    assert device.bars == (Bar(2, Region(0xFD000000, 1), 256, prefetchable=False, bits64=False),)
    assert device.driver is None
