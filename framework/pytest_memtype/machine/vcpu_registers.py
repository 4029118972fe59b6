"""The registers of a guest's CPUs, read from outside, without its kernel and its agent."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pytest_memtype.errors import (
    DeviceStateError,
    GuestError,
    HostError,
    Unavailable,
    UsageError,
    harmless,
)
from pytest_memtype.host.private_folder import temporary_folder
from pytest_memtype.host.progress import Progress, Remark, silent
from pytest_memtype.machine.device_state import CpuRegisters, CpuShape, read_cpus, shape_of
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.machine import Machine
from pytest_memtype.machine.migration import leave_ram_out, save_state, send_events
from pytest_memtype.machine.program import Program
from pytest_memtype.machine.qemu_command import QemuConfig
from pytest_memtype.machine.qemu_versions import Qemu, this_qemu
from pytest_memtype.machine.qmp import Qmp, qmp_of_another
from pytest_memtype.machine.state import GuestState
from pytest_memtype.machine.template import memory_file


@contextlib.contextmanager
def stopped(machine: Machine) -> Iterator[None]:
    """Pause the guest's CPUs during the block; they go on afterwards if they ran before.

    :param machine: The guest, paused or running.
    :raises GuestError: QEMU ended.
    """
    running = machine.state is not GuestState.STOPPED
    try:
        # Ctrl-C may come when this is sent and not yet answered.
        if running:
            machine.qmp.execute("stop")
        yield
    finally:
        if running and machine.alive:
            machine.qmp.execute("cont")


def save_devices(machine: Machine) -> bytes:
    """The state of a guest's devices without its RAM, and without a description of itself.

    ``migrate`` would write all RAM of a clone, which is private and so not left out by ``x-ignore-shared``.
    This command takes 3 ms. It has nothing of Xen but the name (QEMU 7.2, migration/savevm.c); its
    counterpart for loading aborts QEMU there (``yank_unregister_instance``), so that isn't used.

    :param machine: The guest, paused or running.
    :raises GuestError: QEMU ended, or could not save the state.
    :raises Unavailable: the guest has a device that forbids it.
    """
    if machine.config.hardware.devices or machine.config.devices:
        # QEMU asks no device for this command, and crashes when it saves one such as nvme (7.2,
        # vmstate_save_state_v() with no fields).
        blocked = machine.qmp.execute("query-migrate").get("blocked-reasons")
        if blocked:
            raise Unavailable(f"QEMU can't say what the guest's registers hold: {blocked[0]}")
    with stopped(machine), temporary_folder("state") as name:
        file = Path(name) / "state"
        # Not "live": that would let the guest run on while it is being read.
        machine.qmp.execute("xen-save-devices-state", {"filename": str(file), "live": False})
        return file.read_bytes()


def outside_registers(machine: Machine) -> tuple[CpuRegisters, ...]:
    """The contents of every CPU's registers, by number of the CPU.

    :param machine: The guest, paused or running.
    :raises GuestError: QEMU ended, or saved something that isn't understood.
    """
    state = save_devices(machine)
    try:
        return read_cpus(state, cpu_shape(machine.config), cpus=machine.config.hardware.cpus)
    except DeviceStateError as error:
        raise GuestError(f"the registers can't be read from outside: {error}") from None


def cpu_shape(guest: QemuConfig) -> CpuShape:
    """The way in which this host's QEMU saves the CPUs of a guest.

    :param guest: The guest's configuration. The state of a clone describes itself; otherwise a QEMU is
        started to learn it.
    :raises GuestError: QEMU didn't start, or saved something that isn't understood.
    """
    if guest.state is not None:
        # The state of a clone describes itself, and another QEMU would have refused it. A guest whose
        # registers were changed comes from a file that is gone.
        with contextlib.suppress(OSError, DeviceStateError):
            return _described(guest.state)
    # The shape may depend on the CPU's model, and on nothing else of the hardware.
    return _learned(this_qemu(), guest.hardware.cpu, guest.accelerator)


def learned_shape(program: Program) -> CpuShape:
    """Learn how a QEMU that isn't this host's saves CPUs, from a guest of its own that never runs.

    :param program: The QEMU to start.
    :raises HostError: it can't be started, or its saved state isn't understood.
    """
    ours, theirs = socket.socketpair()
    # fmt: off
    command = [
        *program.command, "-nodefaults", "-no-user-config", "-display", "none",
        "-machine", "q35", "-accel", "tcg", "-m", "16M", "-S",
        "-chardev", f"socket,id=control,fd={theirs.fileno()}", "-qmp", "chardev:control",
    ]
    # fmt: on
    with ours, theirs, tempfile.TemporaryFile() as output:
        descriptors = [theirs.fileno(), *program.descriptors]
        qemu = subprocess.Popen(command, pass_fds=descriptors, stdout=output, stderr=output)
        try:
            theirs.close()
            with contextlib.closing(qmp_of_another(ours, program.name)) as qmp:
                send_events(qmp)
                return _saved_shape(qmp)
        except (GuestError, UsageError, DeviceStateError, OSError) as error:
            output.seek(0)
            said = tuple(harmless(output.read().decode(errors="replace")).splitlines()[-5:])
            raise HostError(
                f"how {program.name} saves CPUs can't be learned: {error}", details=said
            ) from None
        finally:
            qemu.kill()
            qemu.wait()


@contextlib.contextmanager
def trial_guest(*, as_template: bool = False) -> Iterator[Machine]:
    """A guest without a kernel, paused for good.

    :param as_template: Keep the memory in a file of this process, as that of a template that boots.
    :raises HostError: QEMU isn't installed or can't be used, or this host has no files in memory.
    :raises GuestError: QEMU doesn't start; a confined QEMU can't open the memory of a template.
    """
    with contextlib.ExitStack() as stack:
        hardware, ram_file = Hardware(), None
        if as_template:
            memory = stack.enter_context(os.fdopen(memory_file(), "r+b"))
            memory.truncate(hardware.memory_bytes)
            ram_file = Path(f"/proc/{os.getpid()}/fd/{memory.fileno()}")
        name = stack.enter_context(temporary_folder("trial"))
        yield stack.enter_context(Machine.start(QemuConfig(hardware, ram_file=ram_file), logs=Path(name)))


def usable_qemu(*, progress: Progress = silent) -> Qemu:
    """The QEMU of this host, after a trial: a guest was started and saved, and its registers were read.

    The guest has no kernel and never runs, so this takes as long as QEMU needs to start.

    :param progress: Called with a :class:`Remark` where guests can be booted but not cloned.
    :raises HostError: QEMU can't be used; the message is one line that says why.
    """
    qemu = this_qemu()
    try:
        try:
            _try_to_read(as_template=True)
        except (GuestError, HostError) as error:
            _try_to_read(as_template=False)
            progress(Remark(f"nothing can be cloned, so that each guest boots: {_first_line(error)}"))
    except (GuestError, DeviceStateError) as error:
        raise HostError(
            f"{qemu.program} (QEMU {qemu.release}) can't be used: {_first_line(error)}; install the package "
            "qemu-system-x86 again"
        ) from None
    return qemu


def _try_to_read(*, as_template: bool) -> None:
    with trial_guest(as_template=as_template) as machine:
        config = machine.config
        read_cpus(save_devices(machine), cpu_shape(config), cpus=config.hardware.cpus)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


@functools.cache
def _described(state: Path) -> CpuShape:
    return shape_of(state.read_bytes())


@functools.cache
def _learned(_qemu: Qemu, cpu: str, accelerator: str) -> CpuShape:
    guest = QemuConfig(
        hardware=replace(Hardware(), cpu=cpu), accelerator="kvm" if accelerator == "kvm" else "tcg"
    )
    with temporary_folder("shape") as name, Machine.start(guest, logs=Path(name)) as machine:
        leave_ram_out(machine.qmp)
        try:
            return _saved_shape(machine.qmp)
        except DeviceStateError as error:
            raise GuestError(str(error)) from None


def _saved_shape(qmp: Qmp) -> CpuShape:
    with temporary_folder("shape") as name:
        state = Path(name) / "state"
        save_state(qmp, state)
        return shape_of(state.read_bytes())
