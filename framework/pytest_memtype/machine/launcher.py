"""QEMU loaded once, and forked for each guest.

A third of QEMU's start is the loader's work, which brings in and links 90 libraries (QEMU 7.2). A launcher is
a QEMU that has done this and waits, by a library that is preloaded into it (``guests/launcher/launcher.c``).
The processes that it forks are children of this process, as if this process had started them; only what the
loader reads (``LD_LIBRARY_PATH``), nice value, affinity and OOM score are those of the launcher's start.

Where a launcher is impossible (QEMU is a script, or statically linked), QEMU is started like any program.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import functools
import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pytest_memtype.host.files import umask
from pytest_memtype.machine.timeouts import LAUNCH

_VARIABLE: Final = "MEMTYPE_LAUNCHER"

_ELF: Final = b"\x7fELF"

#: Room for the command line that ps shows.
_ROOM: Final = 8192

_MAX_FILES: Final = 253
_REQUEST: Final = struct.Struct(f"5i{_MAX_FILES}i")
_ANSWER: Final = struct.Struct("i")


class Child:
    """A process that a launcher has forked, with what this project uses of ``subprocess.Popen``.

    :ivar pid: The process id.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._pidfd = os.pidfd_open(pid)
        self._status: int | None = None
        # The second thread must not ask the kernel for a child that is no more.
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """The exit status of the process, or the negative number of its signal; None while it runs."""
        return self._reap(os.WNOHANG)

    def wait(self) -> int:
        """Wait until the process has ended, and return its status as :meth:`poll` does."""
        status = self._reap(0)
        assert status is not None
        return status

    def kill(self) -> None:
        """Kill the process, if it still runs."""
        with self._lock:
            if self._status is None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _reap(self, options: int) -> int | None:
        with self._lock:
            if self._status is None:
                try:
                    found = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | options)
                    if found is not None:
                        exited = found.si_code == os.CLD_EXITED
                        self._status = found.si_status if exited else -found.si_status
                except ChildProcessError:
                    # Other code has waited for it; subprocess says 0 then, too.
                    self._status = 0
                if self._status is not None:
                    os.close(self._pidfd)
            return self._status


def _can_wait(program: str) -> bool:
    """Whether the program is no script: the library would make the script's interpreter wait."""
    try:
        with Path(program).open("rb") as file:
            return file.read(len(_ELF)) == _ELF
    except OSError:
        return False


class Launcher:
    """A program that is loaded and waits to be forked. It ends with this process.

    :param program: Path of the program.
    :param library: The library that makes the program wait.
    :param before: Start of the command, see :func:`pytest_memtype.host.child.dying_with_us`.
    :raises OSError: the program can't be started.
    """

    def __init__(self, program: str, library: Path, *, before: Sequence[str]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with contextlib.ExitStack() as unless_started:
            unless_started.enter_context(ours)
            ours.settimeout(LAUNCH)
            # Even where socket.setdefaulttimeout() was called.
            theirs.setblocking(True)
            self._socket = ours
            with theirs, library.open("rb") as file:
                # By its number, because a path may have a space or a colon, which end one in this variable.
                preloaded = filter(None, [f"/proc/self/fd/{file.fileno()}", os.environ.get("LD_PRELOAD")])
                variables = [f"LD_PRELOAD={':'.join(preloaded)}", f"{_VARIABLE}={file.fileno()}"]
                # A program that the library doesn't make wait prints its version and ends.
                command = [program, "--version", " " * _ROOM]
                self._process: subprocess.Popen[bytes] = subprocess.Popen(
                    [*before, "env", *variables, *command],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=[file.fileno()],
                    start_new_session=True,
                )
            unless_started.pop_all()

    def launch(self, command: Sequence[str], *, pass_fds: Sequence[int], output: int) -> Child | None:
        """Fork the loaded program, and give it a command line.

        :param command: Program and arguments, for the process to be started with.
        :param pass_fds: Descriptors that it inherits, under the same numbers.
        :param output: Descriptor for its standard output and error.
        :returns: the new process; None if that isn't possible.
        """
        # Not items(): another thread may take one away, such as pytest's PYTEST_CURRENT_TEST.
        values = [(name, os.environ.get(name)) for name in list(os.environ)]
        variables = [f"{name}={value}" for name, value in values if value is not None]
        strings = b"".join(os.fsencode(each) + b"\0" for each in (*command, *variables))
        try:
            with contextlib.ExitStack() as stack:
                here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                stack.callback(os.close, here)
                nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
                stack.callback(os.close, nothing)
                files = [here, nothing, output, output, *pass_fds]
                wanted = [-1, 0, 1, 2, *pass_fds]
                wanted += [-1] * (_MAX_FILES - len(wanted))
                counts = len(command), len(variables), umask(), len(files)
                request = _REQUEST.pack(os.getpid(), *counts, *wanted)
                rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))
                self._socket.sendmsg([request + strings], [rights])
                pid = self._answer()
        except OSError:
            return None
        if pid <= 0:
            return None
        try:
            return Child(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise

    def _answer(self) -> int:
        """The process id of the new process; not above 0 if there is none."""
        try:
            answer = self._socket.recv(_ANSWER.size)
        except TimeoutError:
            # A process that answers later finds the socket shut, and ends. One may have answered already.
            self._socket.shutdown(socket.SHUT_RDWR)
            answer = self._socket.recv(_ANSWER.size)
        return int(_ANSWER.unpack(answer)[0]) if answer else 0

    def close(self) -> None:
        """End the launcher. The processes that it has forked go on."""
        self._socket.close()
        self._process.kill()
        self._process.wait()


@functools.cache
def _launchers(_pid: int) -> dict[str, Launcher | None]:
    # Keyed by the process id, because another process is not the parent of what these fork.
    return {}


@atexit.register
def _close_all() -> None:
    for launcher in list(_launchers(os.getpid()).values()):
        if launcher is not None:
            launcher.close()


def launch(
    command: Sequence[str], library: Path, *, before: Sequence[str], pass_fds: Sequence[int], output: int
) -> Child | None:
    """Start a command by its program's launcher, which the first call starts. Threads take turns.

    :param command: Program and arguments; the program is looked for in ``PATH``.
    :param library: The library that makes the program wait.
    :param before: Start of the launcher's command, see :func:`pytest_memtype.host.child.dying_with_us`.
    :param pass_fds: Descriptors that the process inherits, under the same numbers.
    :param output: Descriptor for the process's standard output and error.
    :returns: the new process; None if it can't be started this way. Once that was so for a program, it stays
        so.
    """
    program = shutil.which(command[0])
    if program is None:
        return None
    known = _launchers(os.getpid())
    if program not in known:
        known[program] = None
        with contextlib.suppress(OSError):
            if _can_wait(program):
                known[program] = Launcher(program, library, before=before)
    launcher = known[program]
    if launcher is None:
        return None
    child = launcher.launch(command, pass_fds=pass_fds, output=output)
    if child is None:
        known[program] = None
        launcher.close()
    return child
