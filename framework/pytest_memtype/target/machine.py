"""A target with the agent running: the counterpart of :mod:`pytest_memtype.machine.machine` for QEMU."""

from __future__ import annotations

import contextlib
import shlex
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from pytest_memtype.console.text import sanitize
from pytest_memtype.errors import (
    GuestError,
    GuestExited,
    GuestHung,
    GuestPanicked,
    MemtypeError,
    SshError,
    SshLost,
    Unavailable,
)
from pytest_memtype.host.private_folder import PrivateFolder
from pytest_memtype.machine.console import Console
from pytest_memtype.machine.exit_report import CONSOLE_LINES, PANIC_LINES
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.port import Port
from pytest_memtype.machine.state import GuestState
from pytest_memtype.machine.timeouts import SIGN_OF_LIFE, UNDOING
from pytest_memtype.machine.wait import deadline_after, poll
from pytest_memtype.ssh.connection import Connection
from pytest_memtype.ssh.deploy import Deployed, undeploy
from pytest_memtype.target.permission import TargetConfig
from pytest_memtype.target.pump import LOST, Pump, SerialConsole, from_channel


class TargetMachine:
    """A target, with the agent running. Use it as :class:`~pytest_memtype.machine.interface.AgentHost`.

    :param connection: The connection to the target, closed with this object.
    :param deployed: Paths of the agent and the module on the target.
    :param permission: The owner's permission, which the agent is started with.
    :param console: The target's serial console, closed with this object; None without one.
    :param hardware: The target's CPUs, RAM and address width.
    :param logs: Folder for ``console.log``, ``agent.log`` and ``agent-errors.log``.
    :param rerun: A command that tests the same target again.
    """

    def __init__(
        self,
        connection: Connection,
        deployed: Deployed,
        permission: TargetConfig,
        *,
        console: SerialConsole | None,
        hardware: Hardware,
        logs: Path,
        rerun: str,
    ) -> None:
        self.connection = connection
        self.deployed = deployed
        self.logs = logs.absolute()
        self.activity = GuestState.BOOTING
        self.hardware = hardware
        self.rerun = rerun
        self._serial = console
        self._closed = False
        self._said = b""
        self._unsent = b""
        self._sending = threading.Lock()
        self._stop = threading.Event()
        self._release = contextlib.ExitStack()
        # Closed last: the agent's channel may need the connection until then.
        self._release.callback(connection.close)
        try:
            self._start(permission)
        except BaseException as error:
            if not hasattr(self, "_channel"):
                # No agent is there yet that would remove itself. Where the connection broke, nothing helps.
                with contextlib.suppress(SshError):
                    undeploy(connection, deployed)
            try:
                self.close()
            except SshError as second:
                # Added to the first error, which says why.
                if isinstance(error, MemtypeError):
                    error.details += (second.message, *second.details)
                else:
                    error.add_note(str(second))
            raise

    def _start(self, permission: TargetConfig) -> None:
        if self._serial is not None:
            self._release.callback(self._serial.close)
        self.logs.mkdir(parents=True, exist_ok=True)
        folder = PrivateFolder()
        self._release.callback(folder.remove)
        (self.logs / "console.log").touch()
        self._console_pump = Pump(folder.path / "console", log=self.logs / "console.log")
        self._release.callback(self._console_pump.close)
        if self._serial is not None:
            self._console_pump.start(self._serial.receive, self._serial.send)
        self._console = Console(folder.path / "console", self, log=self.logs / "console.log")
        self._release.callback(self._console.close)
        self._channel = self.connection.start(agent_command(self.deployed, permission))
        self._agent_pump = Pump(folder.path / "agent", log=self.logs / "agent.log")
        self._release.callback(self._agent_pump.close)
        self._agent_pump.start(from_channel(self._channel), self._send)
        self.agent_port = Port(folder.path / "agent", self, name="the agent's channel")
        self._release.callback(self.agent_port.close)
        alive = threading.Thread(
            target=self._keep_alive, args=(permission.lease / 4,), name="memtype-alive", daemon=True
        )
        alive.start()
        self._release.callback(alive.join)
        self._release.callback(self._stop.set)

    def _send(self, data: bytes) -> None:
        """Send bytes that come from the port, in whole lines, so that no sign of life gets into a line."""
        whole, newline, self._unsent = (self._unsent + data).rpartition(b"\n")
        if newline:
            self._send_lines(whole + newline)

    def _send_lines(self, lines: bytes) -> None:
        with self._sending:
            self._channel.sendall(lines)

    def _keep_alive(self, interval: float) -> None:
        while not self._stop.wait(interval):
            with contextlib.suppress(*LOST):
                self._send_lines(b"alive\n")

    @property
    def console(self) -> Console:
        """The console of the target's kernel.

        :raises Unavailable: the user hasn't said where it is.
        """
        if self._serial is None:
            raise Unavailable("the target's console isn't known; say where it is with --console")
        return self._console

    def begin_test(self) -> None:
        """Count what the console prints for the next test alone: the machine is the same for all of them."""
        self._console.begin()

    @property
    def alive(self) -> bool:
        """Does the agent run on the target, as far as has been noticed?"""
        return not self._closed and not poll([self._agent_pump.ended], (), deadline_after(0))

    @property
    def state(self) -> GuestState:
        """The state of the target: its activity while the agent runs, then how that ended."""
        if self.alive:
            return self.activity
        return GuestState.EXITED if self._panic() is None else GuestState.PANICKED

    def death(self) -> GuestError | None:
        """The error that explains why the target can't be reached any more; None while it can."""
        return None if self.alive else self._explain("")

    def close(self) -> None:
        """Have the agent undo everything and end; then leave. Calling this again does nothing.

        :raises SshError: the agent could not undo everything, or didn't end in time.
        """
        if self._closed:
            return
        try:
            if hasattr(self, "_channel"):
                self._end_agent()
        finally:
            self._closed = True
            self._release.close()

    def _end_agent(self) -> None:
        lost = not self.connection.alive
        with contextlib.suppress(*LOST):
            self._channel.shutdown_write()
        if lost:
            # The agent has noticed that by itself, or does when its lease is over.
            return
        ended = self._channel.status_event.wait(UNDOING)
        self._hear_errors()
        if not ended or self._channel.exit_status != 0:
            how = self._how_it_ended() if ended else f"did not end in {UNDOING:.0f} s"
            raise SshError(
                f"{self.connection.address}: the agent {how}; look there for {self.deployed.folder} and the "
                "module memtype"
            )

    # Methods for the channels; see wait.Waiter.

    def ready(self, *, readable: Iterable[int] = (), writable: Iterable[int] = (), timeout: float) -> bool:
        """Wait for one of some descriptors. False at the deadline; end of file counts as readable.

        :param readable: Descriptors to wait for until they can be read.
        :param writable: Descriptors to wait for until they can be written.
        :param timeout: Seconds until the deadline.
        :raises GuestError: the agent ended, or the connection, and nothing was left to read.
        """
        if self._closed:
            raise self._explain("")
        wanted = {*readable, *writable}
        ended = self._agent_pump.ended
        deadline = deadline_after(timeout)
        while True:
            found = poll({*readable, ended, self._console.child_fd}, writable, deadline)
            if wanted & found:
                return True
            if ended in found:
                raise self._explain("")
            self._console.drain()
            if deadline <= time.monotonic():
                return False

    def ended(self, doing: str) -> GuestError:
        """The error that explains why the agent's channel closed."""
        return self._explain(doing)

    def hung(self, doing: str, timeout: float) -> GuestError:
        """The error that explains a deadline of ``timeout`` seconds."""
        if not self.alive:
            return self._explain(doing)
        try:
            self.connection.run("true", timeout=SIGN_OF_LIFE)
        except SshError:
            # It can't be told from here whether the machine or the network is at fault.
            error = self._explain(doing, silent=timeout)
            self.connection.close()
            return error
        self.activity = GuestState.HUNG
        where = self.connection.address
        return GuestHung(
            f"{where}: the agent gave no answer for {timeout:.3g} s ({doing})", details=self._details()
        )

    def _explain(self, doing: str, *, silent: float | None = None) -> GuestError:
        where, context = self.connection.address, f" ({doing})" if doing else ""
        if self._closed:
            return GuestExited(f"{where}: it was left before; start another")
        panic = self._panic()
        if panic is not None:
            return GuestPanicked(
                f"{where}: the target's kernel panicked{context}: {panic}", details=self._details(PANIC_LINES)
            )
        if silent is not None:
            return SshLost(
                f"{where}: the connection was lost{context}: nothing came for {silent:.3g} s",
                details=self._details(),
            )
        # The agent's child does the work, and has this channel; the status comes when all is undone, or at
        # the end of the connection.
        self._channel.status_event.wait(UNDOING)
        if self.connection.alive:
            self._hear_errors()
            return GuestExited(f"{where}: the agent {self._how_it_ended()}{context}", details=self._details())
        return SshLost(f"{where}: the connection was lost{context}", details=self._details())

    def _panic(self) -> str | None:
        return None if self._serial is None else self._console.panic()

    def _details(self, lines: int = CONSOLE_LINES) -> tuple[str, ...]:
        if self._serial is not None:
            self._console.drain()
        console = self._console.tail(lines)
        trouble = self._console_pump.trouble or self._agent_pump.trouble
        return (
            *(["last console lines:", *(f"    {line}" for line in console)] if console else []),
            f"logs: {self.logs}{f' (not whole: {trouble})' if trouble else ''}",
            f"run it again: {self.rerun}",
        )

    def _hear_errors(self) -> None:
        with contextlib.suppress(*LOST):
            while self._channel.recv_stderr_ready():
                self._said += self._channel.recv_stderr(1 << 16)
            (self.logs / "agent-errors.log").write_bytes(self._said)

    def _how_it_ended(self) -> str:
        lines = sanitize(self._said).splitlines()
        said = f": {lines[-1]}" if lines else ""
        status = self._channel.exit_status
        return f"ended with status {status}{said}" if status >= 0 else f"was killed{said}"


def agent_command(deployed: Deployed, permission: TargetConfig) -> str:
    """The shell line that starts the agent on a target."""
    words = [str(deployed.agent), "--port", "-", "--module", str(deployed.module)]
    words += ["--allow", permission.allowed, "--folder", str(deployed.folder)]
    words += ["--lease", str(permission.lease)]
    if permission.printk is not None:
        words += ["--printk", str(permission.printk)]
    if permission.shell:
        words.append("--shell")
    return f"exec {shlex.join(words)}"
