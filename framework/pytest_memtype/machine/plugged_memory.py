"""Memory that is plugged into a running guest and out of it: DIMMs, of which the guest learns by ACPI.

QEMU says when the guest's kernel has done its part: the kernel answers each notice by the method ``_OST``,
and QEMU sends that on as the event ACPI_DEVICE_OST (Linux, drivers/acpi/scan.c, acpi_device_hotplug(); QEMU,
hw/acpi/memory_hotplug.c).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Final

from pytest_memtype.errors import GuestError, UsageError
from pytest_memtype.machine.hardware import RamRange
from pytest_memtype.machine.machine import Machine
from pytest_memtype.machine.memory import host_address
from pytest_memtype.machine.qmp import Event
from pytest_memtype.machine.timeouts import HOTPLUG

# The notices that QEMU gives (hw/acpi/memory_hotplug.c), which the kernel's answers name as their source.
_DEVICE_CHECK: Final = 1
_EJECT_REQUEST: Final = 3
# ACPI specification 6.5, "_OST (OSPM Status Indication)": status codes.
_SUCCESS: Final = 0
_EJECTION_IN_PROGRESS: Final = 0x84


def plug(machine: Machine, size: int) -> RamRange:
    """Plug memory in, and wait until the guest's kernel has taken it.

    :param machine: The guest's machine, running.
    :param size: Bytes.
    :returns: The memory; its offset is an address in QEMU. :attr:`Machine.plugged` has it, too.
    :raises UsageError: the machine's hardware has no room for it.
    :raises GuestError: QEMU or the guest's kernel refused it, or QEMU ended.
    """
    hardware, qmp = machine.hardware, machine.qmp
    there = hardware.memory_bytes + sum(each.size for each in machine.plugged.values())
    most = hardware.most_memory_bytes
    if there + size > most:
        raise UsageError(
            f"plug_memory: the guest has {there >> 20} MiB of RAM and can have {most >> 20}, which leaves no "
            f"room for {size >> 20}; say hardware(most_memory=...)"
        )
    name = next(name for name in map("dimm{}".format, itertools.count()) if name not in machine.plugged)
    before = len(qmp.events)
    # In no file: what GuestMemory takes for the RAM of a guest is told by the size of its file.
    backend = f"{name}-memory"
    qmp.execute("object-add", {"qom-type": "memory-backend-ram", "id": backend, "size": size})
    try:
        qmp.execute("device_add", {"driver": "pc-dimm", "id": name, "memdev": backend})
    except GuestError:
        qmp.execute("object-del", {"id": backend})
        raise
    dimms = (each["data"] for each in qmp.execute("query-memory-devices"))
    start = next(each["addr"] for each in dimms if each["id"] == name)
    machine.plugged[name] = RamRange(start, size, host_address(qmp.monitor, start))

    def told(event: Event) -> int | None:
        return _status(event, name, source=_DEVICE_CHECK)

    answer = _wait(machine, before, lambda event: told(event) is not None)
    if told(answer) != _SUCCESS:
        raise GuestError(
            f"the guest's kernel refused {size >> 20} MiB of memory at {start:#x} (_OST status "
            f"{told(answer):#x}); guest.log has its reason"
        )
    return machine.plugged[name]


def unplug(machine: Machine, start: int, size: int) -> None:
    """Take memory out that was plugged in, and wait until the guest's kernel has let it go.

    :param machine: The guest's machine, running.
    :param start: Guest-physical address of its first byte.
    :param size: Bytes, all that was plugged in there.
    :raises UsageError: no such memory was plugged in.
    :raises GuestError: the guest's kernel doesn't let it go, or QEMU ended.
    """
    names = [name for name, each in machine.plugged.items() if (each.start, each.size) == (start, size)]
    if not names:
        raise UsageError(f"unplug_memory: {size:#x} bytes at {start:#x} are none that plug_memory() returned")
    (name,) = names
    before = len(machine.qmp.events)
    machine.qmp.execute("device_del", {"id": name})

    def told(event: Event) -> int | None:
        return _status(event, name, source=_EJECT_REQUEST)

    answer = _wait(
        machine,
        before,
        lambda event: _is_gone(event, name) or told(event) not in (None, _EJECTION_IN_PROGRESS),
    )
    if not _is_gone(answer, name):
        raise GuestError(
            f"the guest's kernel doesn't give back the memory at {start:#x} (_OST status "
            f"{told(answer):#x}); guest.log has its reason"
        )
    del machine.plugged[name]
    machine.qmp.execute("object-del", {"id": f"{name}-memory"})


def _wait(machine: Machine, before: int, wanted: Callable[[Event], bool]) -> Event:
    doing = "waiting for the guest's kernel to take memory, or to give it back"
    return machine.qmp.wait_for_event(wanted, doing=doing, after=before, timeout=HOTPLUG)


def _status(event: Event, name: str, *, source: int) -> int | None:
    """The status that the guest's kernel answers to a notice about a DIMM; None in another event.

    The last answer about a DIMM may come when another of its name is there already.
    """
    if event["event"] != "ACPI_DEVICE_OST":
        return None
    info = event["data"]["info"]
    return int(info["status"]) if (info.get("device"), info["source"]) == (name, source) else None


def _is_gone(event: Event, name: str) -> bool:
    return bool(event["event"] == "DEVICE_DELETED" and event["data"].get("device") == name)
