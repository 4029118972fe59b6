"""A trial of a guest's own devices: QEMU's judgement of them, and whether it saves their state.

A clone of a guest whose device QEMU doesn't save has that device as after a reset: its BARs are at address 0,
and nothing says so. ``edu`` and ``pci-testdev`` are such devices (QEMU 7.2 to 11.1: they have no
``VMStateDescription``). Others forbid that a guest is saved, such as ``nvme`` and ``ivshmem-plain`` without
``master=on``; the memory that such a device shows in a BAR must not be shared, either.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytest_memtype.errors import DeviceStateError, GuestError, GuestExited, UsageError
from pytest_memtype.host.private_folder import temporary_folder
from pytest_memtype.machine.device_state import section_names
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.machine import Machine
from pytest_memtype.machine.migration import leave_ram_out, save_state
from pytest_memtype.machine.qemu_command import Accelerator, QemuConfig, named_devices
from pytest_memtype.machine.qmp import Qmp

_ROOT_BUS = "/machine/q35/pcie.0"
# "Domain:00:Slot.Function:Slot.Function..." (QEMU 7.2, hw/pci/pci.c, pcibus_get_dev_path()).
_ROOT = "0000:00"


@functools.cache
def why_not_saved(hardware: Hardware, accelerator: Accelerator) -> str | None:
    """Say why a guest with such devices can't be cloned, as one phrase; None when it can.

    A QEMU is started for it, which never runs: 0.1 s. The answer is kept for the rest of the process.

    :param hardware: The guest's hardware.
    :param accelerator: ``tcg`` or ``kvm``.
    :raises UsageError: QEMU refuses a device or an object; the message has its words.
    :raises GuestError: QEMU didn't start for another reason.
    """
    if not hardware.devices and not hardware.objects:
        return None
    with temporary_folder("devices") as name:
        logs = Path(name)
        try:
            machine = Machine.start(QemuConfig(hardware, accelerator=accelerator), logs=logs)
        except GuestExited as error:
            raise _refusal(hardware, logs / "qemu.log", error) from None
        with machine:
            blocked = machine.qmp.execute("query-migrate").get("blocked-reasons")
            if blocked:
                return f"QEMU can't save a guest that has one of them ({blocked[0]})"
            shared = _shared(machine.qmp, hardware)
            if shared is not None:
                return f"QEMU can't restore the memory {shared}, which is shared (share=off makes it private)"
            unsaved = list(_unsaved(machine.qmp, hardware, logs / "state"))
    return f"QEMU doesn't save the state of {', '.join(unsaved)}" if unsaved else None


def _refusal(hardware: Hardware, log: Path, error: GuestExited) -> UsageError | GuestExited:
    text = log.read_text(errors="replace")
    for named, device in zip(named_devices(hardware), hardware.devices, strict=True):
        text = text.replace(f"-device {named}:", f"-device {device}:")
    lines = text.splitlines()
    # Such as: qemu-system-x86_64: -device nosuch: 'nosuch' is not a valid device model name
    said = next((line for line in lines if " -device " in line or " -object " in line), None)
    return error if said is None else UsageError(f"hardware: QEMU says: {said.partition(': ')[2]}")


def _shared(qmp: Qmp, hardware: Hardware) -> str | None:
    """The id of an object that is memory, and shared: QEMU wants it at its address before it knows any BAR.

    "Mismatched GPAs for block" (7.2 to 11.1, migration/ram.c, with ``x-ignore-shared``).
    """
    for each in hardware.objects:
        match = re.search(r",id=([^,]+)", each)
        if match and _property(qmp, f"/objects/{match[1]}", "share") is True:
            return match[1]
    return None


def _unsaved(qmp: Qmp, hardware: Hardware, file: Path) -> Iterator[str]:
    leave_ram_out(qmp)
    save_state(qmp, file)
    try:
        sections = section_names(file.read_bytes())
    except DeviceStateError as error:
        raise GuestError(f"what QEMU saves of devices can't be learned: {error}") from None
    for device, name in named_devices(hardware).items():
        path = f"/machine/peripheral/{name}"
        kind = str(_property(qmp, path, "type"))
        prefix = _pci_place(qmp, path)
        # In doubt it isn't saved: a boot takes longer, and is never wrong.
        if not any(each.startswith(f"{prefix}/") if prefix else each.endswith(kind) for each in sections):
            yield device.partition(",")[0]


def _pci_place(qmp: Qmp, path: str) -> str | None:
    """The place of a PCI device as QEMU names it in what it saves; None for a device on another bus."""
    bus = str(_property(qmp, path, "parent_bus"))
    parent = bus.rpartition("/")[0]
    place = _ROOT if bus == _ROOT_BUS else None
    if place is None and parent.startswith("/machine/peripheral/"):
        place = _pci_place(qmp, parent)
    number = _property(qmp, path, "addr")
    if place is None or not isinstance(number, int):
        return None
    return f"{place}:{number >> 3:02x}.{number & 7:x}"


def _property(qmp: Qmp, path: str, name: str) -> Any:
    try:
        return qmp.execute("qom-get", {"path": path, "property": name})
    except GuestError:
        # Not all devices have an address, and the bus of the machine none.
        return None
