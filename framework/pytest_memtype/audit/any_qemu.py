"""The audit of any QEMU that the user runs, by its QMP socket and the memory of its process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from qemu.qmp import ExecuteError, QMPClient, QMPError

from pytest_memtype.audit.audit import Audit, analyse, snapshot
from pytest_memtype.audit.features import features
from pytest_memtype.audit.mtree import host_address, owners_in_tree
from pytest_memtype.audit.processors import Processors
from pytest_memtype.machine.program import Program, program_of
from pytest_memtype.audit.ram import ProcessRam, RamRange
from pytest_memtype.audit.roots import find_roots, still_roots
from pytest_memtype.errors import DeviceStateError, HostError, UsageError, reason
from pytest_memtype.machine.device_state import CpuShape, read_cpus, shape_of
from pytest_memtype.machine.memory_map import Kind
from pytest_memtype.machine.timeouts import COMMAND, START

_FD_SET: Final = 8086


class Control:
    """A QMP connection to a QEMU that isn't ours, for one call at a time.

    :param connection: Our end of a connected socket.
    :param name: What it is connected to, for messages.
    :raises UsageError: nothing answers there, or it isn't QEMU.
    """

    def __init__(self, connection: socket.socket, name: object) -> None:
        self._runner = asyncio.Runner()
        self._client = QMPClient("memtype-audit")
        try:
            self._run(self._client.connect(connection), START)
        except (QMPError, OSError, TimeoutError) as error:
            self._runner.close()
            raise UsageError(
                f"no QEMU answers at {name}: {error or type(error).__name__}; start it with "
                "-qmp unix:PATH,server=on,wait=off, and let nobody else be connected to it"
            ) from None

    def execute(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        """Carry out a QMP command, and return its answer.

        :param command: Its name.
        :param arguments: Its arguments by name; None when it has none.
        :raises UsageError: QEMU refused it, is gone, or doesn't answer in time.
        """
        try:
            return self._run(self._client.execute(command, arguments), COMMAND)
        except ExecuteError as error:
            raise UsageError(f"QEMU refused {command}: {error}") from None
        except (QMPError, OSError, TimeoutError) as error:
            raise UsageError(f"QEMU didn't answer {command}: {error}") from None

    def monitor(self, command: str) -> str:
        """Carry out a command of QEMU's human monitor, and return its output."""
        return str(self.execute("human-monitor-command", {"command-line": command}))

    def give(self, descriptor: int) -> None:
        """Pass a file descriptor to QEMU, for the next command that takes one."""
        self._client.send_fd_scm(descriptor)

    def close(self) -> None:
        """Disconnect from QEMU, which runs on."""
        with contextlib.suppress(QMPError, OSError, TimeoutError):
            self._run(self._client.disconnect(), COMMAND)
        self._runner.close()

    def _run(self, coroutine: Any, timeout: float) -> Any:
        return self._runner.run(asyncio.wait_for(coroutine, timeout))


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
        return _audit(connection, path, process, shape)


def _audit(connection: socket.socket, path: Path, process: int, shape: CpuShape) -> Audit:
    with contextlib.closing(Control(connection, path)) as control:
        known = features(control.execute)
        backends = {each["id"] for each in control.execute("query-memdev") if "id" in each}
        owners = owners_in_tree(control.monitor("info mtree -f"), backends=backends)
        ranges = [
            RamRange(each.start, each.end - each.start, host_address(control.monitor, each.start))
            for each in owners
            if each.kind is Kind.RAM
        ]

        def read() -> Processors:
            try:
                cpus = read_cpus(_saved(control), shape)
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
def _stopped(control: Control) -> Iterator[None]:
    running = control.execute("query-status")["running"]
    if running:
        control.execute("stop")
    try:
        yield
    finally:
        if running:
            control.execute("cont")


def _saved(control: Control) -> bytes:
    """The state of all devices of a guest, as QEMU saves it."""
    # By descriptor, because QEMU may run as a user that can't write where we can.
    with tempfile.NamedTemporaryFile(prefix="memtype-state-") as file:
        writable = os.open(file.name, os.O_WRONLY)
        try:
            control.give(writable)
            control.execute("add-fd", {"fdset-id": _FD_SET})
        finally:
            os.close(writable)
        try:
            # Not "live": that would let the guest run on while it is being read.
            arguments = {"filename": f"/dev/fdset/{_FD_SET}", "live": False}
            control.execute("xen-save-devices-state", arguments)
        finally:
            control.execute("remove-fd", {"fdset-id": _FD_SET})
        return file.read()


def connected(path: Path) -> socket.socket:
    """Connect to a QMP socket.

    :param path: The socket.
    :raises UsageError: nothing listens there, or the connection isn't accepted in time.
    """
    connection = socket.socket(socket.AF_UNIX)
    try:
        # A peer that doesn't accept lets the next connection wait for ever once its queue is full.
        # Python's own timeout doesn't wait at all on such a socket, but fails at once (unix(7), EAGAIN).
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(START))
        connection.connect(str(path))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(0))
    except BlockingIOError:
        connection.close()
        raise UsageError(
            f"no QEMU answers at {path}: it takes no connection in {START:.0f} s; "
            "let nobody else be connected to it"
        ) from None
    except OSError as error:
        connection.close()
        raise UsageError(
            f"no QEMU answers at {path}: {reason(error)}; start it with -qmp unix:PATH,server=on,wait=off"
        ) from None
    return connection


def _timeval(seconds: float) -> bytes:
    return struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))


def _peer(connection: socket.socket) -> int:
    pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(pid)


def learned_shape(program: Program) -> CpuShape:
    """Learn how a QEMU saves CPUs, from a guest of its own that never runs.

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
            with contextlib.closing(Control(ours, program.name)) as control:
                return shape_of(_migrated(control))
        except (UsageError, DeviceStateError) as error:
            output.seek(0)
            said = tuple(output.read().decode(errors="replace").splitlines()[-5:])
            raise HostError(
                f"how {program.name} saves CPUs can't be learned: {error}", details=said
            ) from None
        finally:
            qemu.kill()
            qemu.wait()


def _migrated(control: Control) -> bytes:
    """The saved state of a guest of 16 MiB, all zeros, by ``migrate``.

    :param control: A connection to the QEMU that has this guest.
    :raises UsageError: QEMU can't save it, or takes too long.
    """
    # Not a file's descriptor, which QEMU 11.1 refuses.
    reading, writing = socket.socketpair()
    with reading:
        with writing:
            control.give(writing.fileno())
            control.execute("getfd", {"fdname": "state"})
        control.execute("migrate", {"uri": "fd:state"})
        reading.settimeout(COMMAND)
        try:
            with reading.makefile("rb") as stream:
                state = stream.read()
        except OSError as error:
            raise UsageError(f"its state did not arrive: {error}") from None
    _wait_for_migration(control)
    return state


def _wait_for_migration(control: Control) -> None:
    deadline = time.monotonic() + COMMAND
    while time.monotonic() < deadline:
        status = control.execute("query-migrate").get("status")
        if status == "completed":
            return
        if status in ("failed", "cancelled"):
            break
        # 16 MiB of zeros: this takes a few milliseconds, and the answers set the pace.
    raise UsageError("it could not save its state")
