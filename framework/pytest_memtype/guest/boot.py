"""Booting a guest: a kernel, a layout and hardware become something a test can talk to."""

from __future__ import annotations

from pathlib import Path

from pytest_memtype.errors import LayoutError
from pytest_memtype.guest.agent import Agent
from pytest_memtype.guest.guest import Guest
from pytest_memtype.machine import command
from pytest_memtype.machine.boot_rom import boot_rom
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.layout import Layout, register_writes
from pytest_memtype.machine.machine import Machine
from pytest_memtype.machine.timeouts import BOOT


def boot(
    *,
    image: Path,
    initramfs: Path,
    layout: Layout,
    hardware: Hardware,
    logs: Path,
    timeout: float = BOOT,
) -> Guest:
    """A guest that has just booted. The caller closes its ``machine``.

    :param image: The kernel, a bzImage.
    :param logs: Folder for the logs of this guest alone.
    :raises LayoutError: the hardware can't have the layout.
    :raises GuestError: the guest didn't reach its agent.
    """
    rom = None
    writes = register_writes(layout, physical_bits=hardware.physical_bits)
    if writes:
        if "-mtrr" in hardware.cpu.split(","):
            raise LayoutError(f"layout {layout.name}: the CPU {hardware.cpu} has no MTRRs to hold it")
        rom = boot_rom(writes)
    machine = Machine.start(
        command.Guest(hardware=hardware, kernel=image, initrd=initramfs), logs=logs, boot_rom=rom
    )
    try:
        machine.resume()
        agent = Agent(machine)
        return Guest(machine, agent, agent.greet(timeout=timeout), layout=layout)
    except BaseException:
        machine.close()
        raise
