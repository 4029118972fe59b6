"""A guest's machine: a QEMU process, its control connection and its two serial ports."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self

from pytest_memtype.console.text import sanitize
from pytest_memtype.errors import GuestError, GuestExited, HostError, Unavailable
from pytest_memtype.host.checksum import Seen, still_whole
from pytest_memtype.host.private_folder import PrivateFolder
from pytest_memtype.machine.console import Console
from pytest_memtype.machine.exit_report import PANIC_LINES, ExitFacts, explain_end, explain_hang
from pytest_memtype.machine.hardware import Hardware, RamRange
from pytest_memtype.machine.interface import AgentHost
from pytest_memtype.machine.memory import GuestMemory
from pytest_memtype.machine.port import Port, make_fifos
from pytest_memtype.machine.process import ChildProcess
from pytest_memtype.machine.qemu_command import Channels, QemuConfig, qemu_command
from pytest_memtype.machine.qemu_versions import Qemu, this_qemu
from pytest_memtype.machine.qmp import Qmp
from pytest_memtype.machine.rerun import write_rerun
from pytest_memtype.machine.state import GuestState, state_of
from pytest_memtype.machine.timeouts import EXIT, START
from pytest_memtype.machine.wait import deadline_after, poll

_SWITCHES = ("STOP", "RESUME")
#: The fw_cfg files of most guests.
NOTHING: Final[Mapping[str, bytes]] = MappingProxyType({})


class Machine:
    """A guest, paused before its first instruction until :meth:`resume`. One thread at a time may use it.

    Use it in a ``with`` statement, or call :meth:`close`. When this process is killed, the kernel kills
    QEMU; the private folder is then removed by the next machine to start.

    :ivar qmp: The control connection.
    :ivar console: ttyS0, the kernel's console.
    :ivar agent_port: ttyS1, the agent's.
    :ivar process: The QEMU process.
    :ivar directory: Private folder, mode 0700, that is gone after :meth:`close`.
    :ivar logs: The folder of :meth:`start`.
    :ivar config: The configuration that was started.
    :ivar plugged: The memory that was plugged in since, by its name in QEMU; offsets are addresses in QEMU.
    :ivar activity: The state as the machine's user sees it: ``booting``, ``ready``, ``busy`` or ``hung``.
    :ivar qemu: The QEMU program.
    :ivar state_fd: Number under which QEMU has ``guest.state`` open, -1 without one.
    """

    qemu: Qemu
    qmp: Qmp
    console: Console
    agent_port: Port
    process: ChildProcess
    directory: Path

    @classmethod
    def start(
        cls,
        config: QemuConfig,
        *,
        logs: Path,
        boot_rom: bytes | None = None,
        history: bytes = b"",
        fw_cfg_files: Mapping[str, bytes] = NOTHING,
        timeout: float = START,
    ) -> Machine:
        """Start QEMU, with the guest paused before its first instruction.

        :param config: The configuration of the guest.
        :param logs: Folder, made if need be, for this machine alone; it stays. It takes ``console.log``,
            ``agent.log``, ``qmp.log``, ``qemu.log`` (what QEMU itself printed) and ``boot-rom.bin``.
        :param boot_rom: Bytes of an option ROM, to be written there and given to the guest.
        :param history: The console output of a restored guest, from before it was saved.
        :param fw_cfg_files: Contents of files that the guest may read through fw_cfg, by name. They are kept
            from other users of this host.
        :param timeout: Seconds that QEMU has for its start.
        :raises HostError: QEMU isn't installed, or not one that can be used.
        :raises GuestExited: QEMU didn't accept what it was given, and says why.
        :raises GuestHung: QEMU didn't start in time.
        """
        logs = logs.absolute()
        logs.mkdir(parents=True, exist_ok=True)
        if boot_rom is not None:
            path = logs / "boot-rom.bin"
            path.write_bytes(boot_rom)
            config = dataclasses.replace(config, boot_rom=path)
        # QEMU and its successors, see replace(), append to these files.
        (logs / "console.log").write_bytes(history)
        (logs / "qemu.log").write_bytes(b"")
        return cls(config, logs, history, fw_cfg_files, timeout)

    def __init__(
        self,
        config: QemuConfig,
        logs: Path,
        history: bytes,
        fw_cfg_files: Mapping[str, bytes],
        timeout: float,
    ) -> None:
        self.config = config
        self.logs = logs
        self.activity = GuestState.BOOTING
        self.plugged: dict[str, RamRange] = {}
        self._closed = False
        self._kill = contextlib.ExitStack()
        self._release = contextlib.ExitStack()
        self._console: Console | None = None
        self._qmp: Qmp | None = None
        self._ground: tuple[Path, int, Seen] | None = None
        try:
            self._start(history, fw_cfg_files, timeout)
        except BaseException:
            self.close()
            raise

    def _start(self, history: bytes, fw_cfg_files: Mapping[str, bytes], timeout: float) -> None:
        self.qemu = this_qemu()
        folder = PrivateFolder()
        self._release.callback(folder.remove)
        self.directory = folder.path
        console, agent = folder.path / "console", folder.path / "agent"
        make_fifos(console)
        make_fifos(agent)
        files = tuple((name, folder.path / f"handed-in-{number}") for number, name in enumerate(fw_cfg_files))
        for name, file in files:
            file.write_bytes(fw_cfg_files[name])
        ours, theirs = socket.socketpair()
        self._release.callback(ours.close)
        with theirs, _opened(self.config.state) as self.state_fd:
            channels = Channels(
                control_fd=theirs.fileno(),
                console=console,
                agent=agent,
                console_log=self.logs / "console.log",
                agent_log=self.logs / "agent.log",
                fw_cfg_files=files,
            )
            self.process = ChildProcess(
                qemu_command(self.config, channels),
                pass_fds=[theirs.fileno(), *([self.state_fd] if self.state_fd >= 0 else [])],
                output=self.logs / "qemu.log",
                launcher=self.config.launcher,
            )
        self._kill.callback(self.process.close)
        self.qmp = self._qmp = Qmp(ours, transcript=self.logs / "qmp.log", waiter=self, timeout=timeout)
        self._release.callback(self.qmp.close)
        # Only now, because QEMU has both FIFO pairs open before it says hello.
        self.console = self._console = Console(console, self, log=channels.console_log, history=history)
        self._release.callback(self.console.close)
        self.agent_port = Port(agent, self, name="the agent's port")
        self._release.callback(self.agent_port.close)

    def stands_on(self, file: Path, seen: Seen) -> None:
        """Note that the guest's RAM is a private copy of a file: unwritten pages show the file.

        :param file: The file that QEMU has mapped.
        :param seen: The state of the file when it was found whole.
        :raises OSError: the file is gone.
        """
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        self._ground = (file, descriptor, seen)

        def leave() -> None:
            self._ground = None
            os.close(descriptor)

        self._release.callback(leave)

    def shaken(self) -> HostError | None:
        """The error that says that the file of the guest's RAM has changed; None if it hasn't.

        No result of such a guest is valid.
        """
        if self._ground is None:
            return None
        file, descriptor, seen = self._ground
        if still_whole(descriptor, seen):
            return None
        return HostError(
            f"{file}: somebody has changed it while a guest ran whose memory it is; run this test again, and "
            "find out who writes there"
        )

    def resume(self) -> None:
        """Let the guest's CPUs run."""
        self.qmp.execute("cont")

    def replace(self, config: QemuConfig, *, timeout: float = START) -> None:
        """End this QEMU and start another in its place, paused; the logs are continued.

        :param config: The configuration of the new QEMU.
        :param timeout: Seconds that the new QEMU has for its start.
        :raises GuestExited: QEMU didn't accept what it was given, and says why.
        :raises GuestHung: QEMU didn't start in time.
        """
        self._release_all()
        self.config = config
        self._console = self._qmp = None
        # The cached memory is the old QEMU's.
        self.__dict__.pop("memory", None)
        self._start((self.logs / "console.log").read_bytes(), NOTHING, timeout)

    @functools.cached_property
    def memory(self) -> GuestMemory:
        """The guest's RAM, read and written from outside.

        :raises HostError: this host doesn't let a process look into its child.
        :raises GuestExited: QEMU ended.
        """
        if not self.alive:
            raise self._explain_end("reaching the guest's memory")
        memory = GuestMemory(self.process.pid, self.config.hardware.ram, self.plugged, waiter=self)
        self._release.callback(memory.close)
        return memory

    @property
    def hardware(self) -> Hardware:
        """The hardware that the guest runs on."""
        return self.config.hardware

    @property
    def rerun(self) -> str:
        """The path of a script that boots the same guest."""
        return write_rerun(self.config, self.logs)

    @property
    def alive(self) -> bool:
        """Whether the QEMU process runs."""
        return not self._closed and self.process.status is None

    @property
    def state(self) -> GuestState:
        """The state of the guest, by QEMU's process, QMP's events, the console and its user."""
        console, qmp = self._console, self._qmp
        switches = [event["event"] for event in (qmp.events if qmp else ()) if event["event"] in _SWITCHES]
        return state_of(
            activity=self.activity,
            status=self.process.status,
            # All of the console's text is looked through for it, so only when it matters.
            panicked=self.process.status is not None and console is not None and console.panic() is not None,
            # QEMU sends no event for the pause in which it is started to load a state.
            paused=switches[-1] == "STOP" if switches else self.config.state is not None,
        )

    def at_end(self, callback: Callable[[], None]) -> None:
        """Register a function to call when :meth:`close` or :meth:`replace` has ended the present QEMU."""
        self._release.callback(callback)

    def death(self, *, within: float = 0.0) -> GuestError | None:
        """The reason why QEMU ended, or None while it runs.

        :param within: Seconds to wait for the end, if something else says that QEMU may be about to end.
        :returns: ``GuestPanicked`` if the kernel said so on the console, else ``GuestExited``. Its details
            are the console's last lines, what QEMU printed, the logs, and a command that runs the same guest.
        """
        if self.alive and within:
            poll([self.process.pidfd], (), deadline_after(within))
        return None if self.alive else self._explain_end("")

    def close(self) -> None:
        """Kill QEMU and remove all it used but the logs. Calling this again does nothing."""
        self._closed = True
        self._release_all()

    def _release_all(self) -> None:
        # The second Ctrl-C of an impatient user must not keep the rest from being released.
        with self._release:
            self._kill.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self.close()

    # What the channels need; see wait.Waiter.

    def ready(self, *, readable: Iterable[int] = (), writable: Iterable[int] = (), timeout: float) -> bool:
        """Wait for one of some descriptors. False at the deadline; end of file counts as readable.

        The kernel console is read all the while, so that it never keeps the guest waiting.

        :param readable: Descriptors to wait for until they can be read.
        :param writable: Descriptors to wait for until they can be written to.
        :param timeout: Seconds to wait at most.
        :raises GuestExited: QEMU ended, and nothing was left to read.
        :raises GuestFlooded: The guest printed more than any healthy one does.
        :raises GuestPanicked: QEMU ended, nothing was left to read, and the kernel panicked before.
        """
        if self._closed:
            raise self._explain_end("")
        wanted = {*readable, *writable}
        deadline = deadline_after(timeout)
        console = self._console
        while True:
            watched = {*readable, self.process.pidfd}
            if console is not None:
                watched.add(console.child_fd)
            found = poll(watched, writable, deadline)
            if wanted & found:
                return True
            if self.process.pidfd in found:
                raise self._explain_end("")
            if console is not None and not console.drain():
                console = None
            if deadline <= time.monotonic():
                return False

    def ended(self, doing: str) -> GuestError:
        """The error that explains why QEMU closed a channel."""
        if not self._closed and not poll([self.process.pidfd], (), deadline_after(EXIT)):
            return GuestExited(
                f"QEMU (process {self.process.pid}) closed its side but still runs ({doing})",
                details=explain_hang(self._remains(), doing, EXIT).details,
            )
        return self._explain_end(doing)

    def hung(self, doing: str, timeout: float) -> GuestError:
        """The error that explains a deadline of ``timeout`` seconds."""
        if not self.alive:
            return self._explain_end(doing)
        if self.state is GuestState.STOPPED:
            doing += "; its CPUs are paused, and QMP cont would let it run"
        self.activity = GuestState.HUNG
        return explain_hang(self._remains(), doing, timeout)

    def _explain_end(self, doing: str) -> GuestError:
        if self._closed:
            return GuestExited("the guest was closed before; start another")
        if self._qmp is not None:
            self._qmp.settle()
        return explain_end(self._remains(), doing)

    def _remains(self) -> ExitFacts:
        console, qmp = self._console, self._qmp
        logs = {"kernel console": self.logs / "console.log", "QMP messages": self.logs / "qmp.log"}
        shutdowns = [event for event in (qmp.events if qmp else ()) if event["event"] == "SHUTDOWN"]
        return ExitFacts(
            pid=self.process.pid,
            status=self.process.status,
            reason=shutdowns[-1]["data"].get("reason") if shutdowns else None,
            panic=console.panic() if console else None,
            console=console.tail(PANIC_LINES) if console else (),
            output=_lines(self.logs / "qemu.log"),
            logs=[
                *((what, str(path)) for what, path in logs.items() if path.exists()),
                ("run this guest again", self.rerun),
            ],
        )


def qemu_of(machine: AgentHost) -> Machine:
    """The machine, which has to be a QEMU of this project.

    :param machine: The machine that a test has.
    :raises Unavailable: the machine is a target.
    """
    if isinstance(machine, Machine):
        return machine
    raise Unavailable(
        "this needs a guest of our own in QEMU: a target has no QMP, can't be saved and restored, and its "
        "memory and registers can't be reached from outside"
    )


@contextlib.contextmanager
def _opened(path: Path | None) -> Iterator[int]:
    """A descriptor for reading a file during the block; -1 where there is no file."""
    if path is None:
        yield -1
        return
    with path.open("rb") as file:
        yield file.fileno()


def _lines(path: Path) -> list[str]:
    """The lines of a file, sanitized; none when the file is gone: the error matters more."""
    try:
        return sanitize(path.read_bytes()).splitlines()
    except OSError:
        return []
