"""The registers of a guest's CPUs, read from outside: neither its kernel nor its agent has a say in it."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pytest_memtype.errors import GuestError
from pytest_memtype.machine.command import Guest
from pytest_memtype.machine.device_state import CpuRegisters, CpuShape, DeviceStateError, read_cpus, shape_of
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.life import GuestState
from pytest_memtype.machine.machine import Machine
from pytest_memtype.machine.migration import leave_ram_out, save_state


@contextlib.contextmanager
def stopped(machine: Machine) -> Iterator[None]:
    """The guest's CPUs stand still meanwhile, and go on afterwards if they ran before.

    :raises GuestError: QEMU ended.
    """
    running = machine.state is not GuestState.STOPPED
    if running:
        machine.qmp.execute("stop")
    try:
        yield
    finally:
        if running and machine.alive:
            machine.qmp.execute("cont")


def save_devices(machine: Machine) -> bytes:
    """The state of a guest's devices without its RAM, and without a description of itself.

    ``migrate`` would write all RAM of a clone, which is private and so not left out by ``x-ignore-shared``.
    This command takes 3 ms. It has nothing of Xen but the name (QEMU 7.2, migration/savevm.c); its
    counterpart for loading aborts QEMU there (``yank_unregister_instance``), so that isn't used.

    :raises GuestError: QEMU ended, or could not save it.
    """
    with stopped(machine), tempfile.TemporaryDirectory(prefix="memtype-state-") as name:
        file = Path(name) / "state"
        # Not "live": that would let the guest run on while it is being read.
        machine.qmp.execute("xen-save-devices-state", {"filename": str(file), "live": False})
        return file.read_bytes()


def outside_registers(machine: Machine) -> tuple[CpuRegisters, ...]:
    """What every CPU's registers hold, by number.

    :raises GuestError: QEMU ended, or saved something that isn't understood.
    """
    state = save_devices(machine)
    try:
        return read_cpus(state, cpu_shape(machine.guest))
    except DeviceStateError as error:
        raise GuestError(f"the registers can't be read from outside: {error}") from None


def cpu_shape(guest: Guest) -> CpuShape:
    """How this host's QEMU saves the CPUs of such a guest.

    :raises GuestError: QEMU didn't start.
    """
    if guest.state is not None:
        # What a clone is restored from describes itself, and another QEMU would have refused it. One whose
        # registers were changed comes from a file that is gone.
        with contextlib.suppress(OSError, DeviceStateError):
            return _described(guest.state)
    # Only the CPU's model may have a say in the shape.
    return _learned(guest.hardware.cpu, guest.accelerator)


@functools.cache
def _described(state: Path) -> CpuShape:
    return shape_of(state.read_bytes())


@functools.cache
def _learned(cpu: str, accelerator: str) -> CpuShape:
    guest = Guest(hardware=replace(Hardware(), cpu=cpu), accelerator="kvm" if accelerator == "kvm" else "tcg")
    with tempfile.TemporaryDirectory(prefix="memtype-shape-") as name:
        state = Path(name) / "state"
        with Machine.start(guest, logs=Path(name) / "logs") as machine:
            leave_ram_out(machine)
            save_state(machine, state)
        return shape_of(state.read_bytes())
