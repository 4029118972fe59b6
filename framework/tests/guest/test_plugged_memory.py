"""Memory that is plugged in: what reads the guest from outside knows it, and mistakes are one line."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pytest_memtype import Guest, Hardware, Layout, MemType, Region
from pytest_memtype.errors import GuestError, GuestExited, GuestHung, Unavailable, UsageError
from pytest_memtype.guest.agent import Agent, Reply
from pytest_memtype.guest.journal import Journal
from pytest_memtype.guest.plugged_memory import plug_memory
from pytest_memtype.guest.protocol import encode_request, new_token
from pytest_memtype.machine import plugged_memory
from pytest_memtype.machine.hardware import RamRange
from pytest_memtype.machine.machine import Machine
from pytest_memtype.machine.memory_map import Kind, owners
from pytest_memtype.target.dry_run import DryMachine

pytestmark = [
    pytest.mark.hardware(most_memory="512M"),
    pytest.mark.needs_config("MEMORY_HOTPLUG", "ACPI_HOTPLUG_MEMORY"),
]
WITH_REMOVAL = pytest.mark.needs_config("MEMORY_HOTREMOVE")
WITHOUT_ROOM = pytest.mark.hardware(most_memory="")


def test_it_is_read_and_written_from_outside(guest: Guest) -> None:
    """QEMU's own view of guest-physical memory says the same. Its size is that of the first RAM."""
    region = guest.plug_memory("256M")
    memory = guest.machine.memory
    assert [(each.start, each.size) for each in memory.ranges] == [(0, 256 << 20), (region.start, 256 << 20)]
    for address in (region.start, region.end - 8):
        memory.write(address, bytes(range(1, 9)))
        assert "0x0807060504030201" in guest.qmp.monitor(f"xp /1xg {address:#x}")
        assert memory.read(address, 8) == bytes(range(1, 9))
    with pytest.raises(UsageError, match="the guest has no such RAM"):
        memory.read(region.end - 4, 8)


def test_its_owner(guest: Guest) -> None:
    region = guest.plug_memory("128M")
    found = owners(guest.hardware, guest.machine.plugged.values())
    assert [(each.start, each.end) for each in found if each.kind is Kind.RAM and each.start >= 1 << 32] == [
        (region.start, region.end)
    ]
    assert [each.start for each in found] == [0, *(each.end for each in found[:-1])]
    tree = guest.qmp.monitor("info mtree -f")
    assert f"{region.start:016x}-{region.end - 1:016x} (prio 0, ram): dimm0-memory" in tree


@WITH_REMOVAL
def test_several_pieces(guest: Guest) -> None:
    """Each goes by itself, and its addresses are free again."""
    first, second = guest.plug_memory("128M"), guest.plug_memory(128 << 20)
    assert second.start == first.end
    with pytest.raises(UsageError, match="the guest has 512 MiB of RAM and can have 512"):
        guest.plug_memory("128M")
    guest.unplug_memory(first)
    memory = guest.machine.memory
    assert [each.start for each in memory.ranges] == [0, second.start]
    with pytest.raises(UsageError, match="the guest has no such RAM"):
        memory.read(first.start, 8)
    assert guest.plug_memory("128M") == first
    assert [each.start for each in memory.ranges] == [0, first.start, second.start]
    assert guest.audit(scan=True).conflicts == ()


def test_after_other_registers(guest: Guest) -> None:
    """Registers can't be changed once it is there, as that takes another QEMU; before, they can."""
    layout = Layout("late", default=MemType.WB)
    guest.change_registers(layout)
    region = guest.plug_memory("128M")
    assert guest.machine.memory.ranges[-1].start == region.start
    assert guest.register_disagreements() == ()
    with pytest.raises(Unavailable, match="change the registers first, or unplug the memory"):
        guest.change_registers(layout)


@pytest.mark.parametrize("size", ["64M", 0, -(128 << 20), (128 << 20) + 4096])
def test_sizes_that_are_no_blocks(guest: Guest, size: str | int) -> None:
    with pytest.raises(UsageError, match="are not whole blocks of the kernel's 0x8000000"):
        guest.plug_memory(size)


def test_a_size_that_is_none(guest: Guest) -> None:
    with pytest.raises(UsageError, match="plug_memory: 'much' isn't a number of bytes"):
        guest.plug_memory("much")


@WITHOUT_ROOM
def test_a_guest_without_room(guest: Guest) -> None:
    with pytest.raises(UsageError, match=r"256 MiB of RAM and can have 256, .* say hardware\(most_memory="):
        guest.plug_memory("128M")


@WITH_REMOVAL
def test_memory_that_was_not_plugged_in(guest: Guest) -> None:
    region = guest.plug_memory("128M")
    for other in (region[:512], Region(0, region.pages)):
        with pytest.raises(UsageError, match=f"at {other.start:#x} are none that plug_memory"):
            guest.unplug_memory(other)
    guest.unplug_memory(region)
    with pytest.raises(UsageError, match="are none that plug_memory"):
        guest.unplug_memory(region)


@WITH_REMOVAL
def test_a_kernel_that_does_not_give_it_back(guest: Guest) -> None:
    """Linux answers EJECT_NOT_SUPPORTED, 0x80, where that is forbidden (ACPI, "_OST")."""
    region = guest.plug_memory("128M")
    assert not guest.shell("echo 0 > /sys/firmware/acpi/hotplug/memory/enabled").status
    with pytest.raises(GuestError, match=r"doesn't give back the memory at 0x100000000 \(_OST status 0x80\)"):
        guest.unplug_memory(region)
    assert guest.machine.memory.ranges[-1].start == region.start
    assert not guest.shell("echo 1 > /sys/firmware/acpi/hotplug/memory/enabled").status
    guest.unplug_memory(region)


@WITH_REMOVAL
def test_the_mailbox_moves_with_the_memory_that_it_lay_in(guest: Guest, tmp_path: Path) -> None:
    """Linux takes pages that it can move from plugged memory first, and moves them as that goes."""
    file = tmp_path / "file"
    file.write_bytes(bytes(range(256)) * 8192)
    region = guest.plug_memory("128M")
    for where in (region.start, 0):
        with guest.batch() as batch:
            status = batch.add(guest.shell, "true")
        assert status.result().status == 0
        pieces = guest._agent.mailbox._pieces
        assert all((start >= region.start) == (where >= region.start) for start, _ in pieces)
        assert guest.get(guest.put(file)) == file.read_bytes()
        if where:
            guest.unplug_memory(region)
    assert guest.plug_memory("128M") == region
    with guest.batch() as batch:
        status = batch.add(guest.shell, "true")
    assert status.result().status == 0


@WITH_REMOVAL
@pytest.mark.needs_config("KEXEC_FILE")
def test_a_kernel_is_not_loaded_anew_with_it(guest: Guest) -> None:
    """The new kernel would take it by a policy of its own, and perhaps lie in it."""
    region = guest.plug_memory("128M")
    with pytest.raises(Unavailable, match=r"kexec\(\): unplug the memory first"):
        guest.kexec()
    assert not guest.shell("ls /tmp/memtype-kexec-*").output.startswith("/tmp")
    guest.unplug_memory(region)
    guest.kexec()
    assert guest.plug_memory("128M") == region


def test_the_largest_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The states of all its blocks are asked for in one request, whose length has an end."""
    blocks = (1 << 40) // (128 << 20)
    monkeypatch.setattr(
        "pytest_memtype.guest.plugged_memory.plug", lambda _, size: RamRange(1 << 32, size, 0)
    )

    def answer(verb: str, fields: dict[str, str | int]) -> Reply:
        encode_request(1, new_token(), verb, fields)
        states = "for n in $(seq 32 8223);" in str(fields["command"])
        return Reply(verb, {"status": 0, "output": "online\n" * blocks if states else "8000000\n"}, ())

    machine = DryMachine(tmp_path, Hardware())
    journal = Journal()
    region = plug_memory(Agent(machine, stub=answer), journal, cast(Machine, machine), "1024G")
    assert journal.ram == [region] == [Region(1 << 32, (1 << 40) >> 12)]


def ost(source: int, status: int, device: str = "dimm0") -> dict[str, Any]:
    """QEMU's event of an answer to a notice: 1 of memory that came, 3 of a wish to have it back."""
    info = {"device": device, "slot": "0", "slot-type": "DIMM", "source": source, "status": status}
    return {"event": "ACPI_DEVICE_OST", "data": {"info": info}}


class FakeQmp:
    """A QEMU that sends some events when a device comes or goes."""

    def __init__(self, said: list[dict[str, Any]]) -> None:
        self.events: tuple[dict[str, Any], ...] = ()
        self.said = said

    def execute(self, command: str, _arguments: object = None) -> list[dict[str, Any]]:
        if command in ("device_add", "device_del"):
            self.events += tuple(self.said)
        return [{"data": {"id": "dimm0", "addr": 1 << 32}}]

    def monitor(self, _command: str) -> str:
        return "Host virtual address for 0x100000000 (dimm0-memory) is 0x7f0000000000"

    def wait_for_event(
        self, wanted: Callable[[dict[str, Any]], bool], *, after: int, **_others: object
    ) -> dict[str, Any]:
        return next(each for each in self.events[after:] if wanted(each))


def a_machine(*said: dict[str, Any]) -> Any:
    hardware = Hardware(memory="256M", most_memory="512M")
    return SimpleNamespace(hardware=hardware, qmp=FakeQmp([*said]), plugged={})


def test_a_late_answer_to_another_notice() -> None:
    """Linux answers once more after it has let memory go, when another may be there under that name."""
    machine = a_machine(ost(3, 0), ost(1, 1))
    with pytest.raises(GuestError, match=r"refused 128 MiB of memory at 0x100000000 \(_OST status 0x1\)"):
        plugged_memory.plug(machine, 128 << 20)
    machine = a_machine(ost(3, 0x80), ost(1, 0))
    plugged_memory.plug(machine, 128 << 20)
    assert list(machine.plugged) == ["dimm0"]
    machine.qmp.said = [ost(1, 1), ost(3, 0x84), ost(3, 0x80)]
    with pytest.raises(GuestError, match=r"doesn't give back the memory .* \(_OST status 0x80\)"):
        plugged_memory.unplug(machine, 1 << 32, 128 << 20)
    machine.qmp.said = [ost(1, 1), {"event": "DEVICE_DELETED", "data": {"device": "dimm0"}}]
    plugged_memory.unplug(machine, 1 << 32, 128 << 20)
    assert machine.plugged == {}


def test_a_kernel_without_it(guest: Guest) -> None:
    """It has no such folder (drivers/acpi/acpi_memhotplug.c, acpi_memory_hotplug_init())."""
    assert not guest.shell("mount -t tmpfs none /sys/firmware/acpi/hotplug").status
    with pytest.raises(Unavailable, match="takes no memory while it runs: it needs CONFIG_MEMORY_HOTPLUG"):
        guest.plug_memory("128M")


def deaf(guest: Guest) -> None:
    """Keep the kernel from hearing of memory: QEMU gives notice by general-purpose event 3 (``_E03``)."""
    assert not guest.shell("echo disable > /sys/firmware/acpi/interrupts/gpe03").status


def test_a_kernel_that_does_not_answer(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugged_memory, "HOTPLUG", 0.5)
    deaf(guest)
    with pytest.raises(GuestHung, match="waiting for the guest's kernel to take memory"):
        guest.plug_memory("128M")


def test_a_guest_that_dies_meanwhile(guest: Guest) -> None:
    """Nobody waits for a kernel that is gone."""
    ended = threading.Event()

    def kill() -> None:
        while not ended.wait(0.05):
            if b"device_add" in (guest.machine.logs / "qmp.log").read_bytes():
                os.kill(guest.machine.process.pid, signal.SIGKILL)
                return

    deaf(guest)
    thread = threading.Thread(target=kill)
    thread.start()
    try:
        with pytest.raises(GuestExited):
            guest.plug_memory("128M")
    finally:
        ended.set()
        thread.join()
