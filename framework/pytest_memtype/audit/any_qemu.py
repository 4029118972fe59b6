"""The audit of any QEMU that the user runs, by its QMP socket and the memory of its process."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

from pytest_memtype.audit.audit import Audit, analyse, snapshot
from pytest_memtype.audit.features import features
from pytest_memtype.audit.mtree import owners_in_tree
from pytest_memtype.audit.processors import Processors
from pytest_memtype.audit.ram import ProcessRam, RamRange
from pytest_memtype.audit.roots import find_roots, still_roots
from pytest_memtype.errors import DeviceStateError, GuestError, UsageError
from pytest_memtype.host.files import read_file
from pytest_memtype.machine.device_state import LARGEST_STATE, CpuShape, read_cpus
from pytest_memtype.machine.memory import host_address
from pytest_memtype.machine.memory_map import Kind
from pytest_memtype.machine.program import program_of
from pytest_memtype.machine.qmp import Qmp, connected, qmp_of_another
from pytest_memtype.machine.vcpu_registers import learned_shape

_FD_SET: Final = 8086


class _Memory(msgspec.Struct):
    id: str | None = None


class _Status(msgspec.Struct):
    running: bool


def audit_qemu(path: Path, *, pid: int | None = None) -> Audit:
    """Audit a QEMU: find roots while its guest runs, stop it, read its page tables, and find the faults.

    Afterwards the guest goes on as it was. It is stopped twice: for a moment to learn which roots are loaded,
    and to read. A process that began in between and isn't loaded at the second stop is missed.

    :param path: The QMP socket.
    :param pid: QEMU's process id; None asks the socket for it.
    :raises UsageError: QEMU can't be reached, its guest isn't an x86-64 guest in 64-bit mode, or its memory
        can't be read.
    :raises HostError: how this QEMU saves its CPUs can't be learned.
    """
    # One connection for both: a second one could reach another process than the one whose id was learned.
    with connected(path) as connection:
        process = pid if pid is not None else _peer(connection)
        with program_of(process) as program:
            shape = learned_shape(program)
        try:
            return _audit(connection, path, process, shape)
        except GuestError as error:
            # That QEMU refuses, ends or hangs is nothing that went wrong with a guest of ours.
            raise UsageError(f"{path}: {error.message}") from None


def _audit(connection: socket.socket, path: Path, process: int, shape: CpuShape) -> Audit:
    with contextlib.closing(qmp_of_another(connection, path)) as control:
        known = features(control)
        backends = {each.id for each in control.ask(list[_Memory], "query-memdev") if each.id is not None}
        owners = owners_in_tree(control.monitor("info mtree -f"), backends=backends)
        ranges = [
            RamRange(each.start, each.end - each.start, host_address(control.monitor, each.start))
            for each in owners
            if each.kind is Kind.RAM
        ]

        def read() -> Processors:
            try:
                count = len(control.ask(list[object], "query-cpus-fast"))
                cpus = read_cpus(_saved(control), shape, cpus=count)
            except DeviceStateError as error:
                raise UsageError(f"the registers of process {process} can't be read: {error}") from None
            return Processors(cpus, known.vendor, known.physical_bits, known.has_mtrr)

        with contextlib.closing(ProcessRam(process, ranges)) as ram:
            # All of RAM is looked through while the guest runs: that takes a second for some gigabytes. What
            # is found may have changed meanwhile, and is looked at again when the guest is stopped.
            first = time.perf_counter()
            with _stopped(control):
                loaded = read().roots
            learned = time.perf_counter()
            likely = find_roots(ram, loaded)
            searched = time.perf_counter()
            with _stopped(control):
                started = time.perf_counter()
                processors = read()
                verified = time.perf_counter()
                roots = still_roots(ram, processors.roots, likely)
                found = time.perf_counter()
                taken = snapshot(ram, processors, roots)
            stop = time.perf_counter() - started
    result = analyse(taken, processors, owners=owners)
    figures = replace(
        result.figures,
        roots_ms=(found - verified) * 1000,
        stop_ms=stop * 1000,
        first_stop_ms=(learned - first) * 1000,
        search_ms=(searched - learned) * 1000,
    )
    return replace(result, figures=figures)


@contextlib.contextmanager
def _stopped(control: Qmp) -> Iterator[None]:
    running = control.ask(_Status, "query-status").running
    try:
        # Ctrl-C may come when this is sent and not yet answered.
        if running:
            control.execute("stop")
        yield
    finally:
        if running:
            control.execute("cont")


def _saved(control: Qmp) -> bytes:
    """The state of all devices of a guest, as QEMU saves it."""
    # By descriptor, because QEMU may run as a user that can't write where we can.
    with tempfile.NamedTemporaryFile(prefix="memtype-state-") as file:
        writable = os.open(file.name, os.O_WRONLY)
        try:
            # Ctrl-C may come when this is sent and not yet answered.
            try:
                control.execute("add-fd", {"fdset-id": _FD_SET}, descriptor=writable)
            finally:
                os.close(writable)
            # Not "live": that would let the guest run on while it is being read.
            arguments = {"filename": f"/dev/fdset/{_FD_SET}", "live": False}
            control.execute("xen-save-devices-state", arguments)
        finally:
            # It refuses where it took none, and that was said.
            with contextlib.suppress(GuestError):
                control.execute("remove-fd", {"fdset-id": _FD_SET})
        return read_file(Path(file.name), most=LARGEST_STATE)


def _peer(connection: socket.socket) -> int:
    pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(pid)
