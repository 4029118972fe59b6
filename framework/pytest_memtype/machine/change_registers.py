"""Registers changed from outside, without the knowledge of the running kernel.

Firmware does that to an operating system in system-management mode, and so does a CPU that comes back from
sleep with less than it went with. QEMU has no command for it, so the guest moves to another QEMU, and its
saved state is edited on the way (seen with QEMU 7.2).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from pytest_memtype.errors import DeviceStateError, GuestError, Unavailable
from pytest_memtype.host.private_folder import temporary_folder
from pytest_memtype.machine.device_state import CpuRegisters, read_cpus, shape_of, with_registers
from pytest_memtype.machine.machine import Machine
from pytest_memtype.machine.migration import load_state, save_state, take_ram_along
from pytest_memtype.machine.vcpu_registers import stopped
from pytest_memtype.x86.mtrr import MtrrState


def change_vcpu_registers(machine: Machine, change: Callable[[CpuRegisters], CpuRegisters]) -> None:
    """Let the guest go on with other registers, in memory of its own; a stopped guest stays stopped.

    Nothing checks the registers: TCG takes a reserved memory type, which hardware would answer with #GP.

    :param machine: The guest's machine. It has another ``memory``, another ``process`` and other channels
        afterwards.
    :param change: Called for each CPU, the boot CPU first; the registers that it returns are loaded. When it
        raises, the guest is as it was.
    :raises GuestError: QEMU ended, or could not save or load the state.
    :raises Unavailable: memory was plugged in, which the other QEMU would not have.
    """
    if machine.plugged:
        raise Unavailable(
            "change_registers() moves the guest to a QEMU that has no memory plugged in: change the "
            "registers first, or unplug the memory"
        )
    with temporary_folder("state") as name, stopped(machine):
        file = Path(name) / "state"
        take_ram_along(machine.qmp)
        try:
            save_state(machine.qmp, file)
            state = file.read_bytes()
            shape, cpus = shape_of(state), machine.config.hardware.cpus
            changed = [change(cpu) for cpu in read_cpus(state, shape, cpus=cpus)]
            file.write_bytes(with_registers(state, shape, changed, cpus=cpus))
        except (DeviceStateError, OSError) as error:
            raise GuestError(f"the registers can't be changed from outside: {error}") from None
        machine.replace(dataclasses.replace(machine.config, ram_file=None, ram_share=True, state=file))
        take_ram_along(machine.qmp)
        load_state(machine)


def with_mtrrs(mtrrs: MtrrState, cpu: CpuRegisters) -> CpuRegisters:
    """The registers of a CPU, with other MTRRs."""
    return dataclasses.replace(
        cpu,
        mtrr_default_type=mtrrs.default_type_register,
        mtrr_fixed=mtrrs.fixed,
        mtrr_variable=mtrrs.variable,
    )
