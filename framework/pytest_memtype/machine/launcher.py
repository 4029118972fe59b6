"""QEMU loaded once, and forked for each guest.

A third of QEMU's start is the loader's work, which brings in and links 90 libraries (QEMU 7.2). A launcher is
a QEMU that has done this and waits, by a library that is preloaded into it (``guests/launcher/launcher.c``).
What it forks are children of this process, as if it had started them.

Where there can be none (QEMU is a script, or statically linked) it is started as any program is.
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

_VARIABLE: Final = "MEMTYPE_LAUNCHER"

_ELF: Final = b"\x7fELF"

#: Room for the command line that ps shows.
_ROOM: Final = 8192

_MAX_FILES: Final = 253
_REQUEST: Final = struct.Struct(f"4i{_MAX_FILES}i")
_ANSWER: Final = struct.Struct("i")

#: Seconds; far more than it takes on a busy host.
_PATIENCE: Final = 20.0


class Child:
    """A process that a launcher has forked, with what this project uses of ``subprocess.Popen``.

    :ivar pid: Its process id.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._pidfd = os.pidfd_open(pid)
        self._status: int | None = None
        # Whoever is second must not ask the kernel for a child that is no more.
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """None while it runs, then its exit status, or the negative number of the signal that killed it."""
        return self._reap(os.WNOHANG)

    def wait(self) -> int:
        """Wait until it has ended."""
        status = self._reap(0)
        assert status is not None
        return status

    def kill(self) -> None:
        """Kill it, if it still runs."""
        with self._lock:
            if self._status is None:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _reap(self, options: int) -> int | None:
        with self._lock:
            if self._status is None:
                found = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | options)
                if found is not None:
                    exited = found.si_code == os.CLD_EXITED
                    self._status = found.si_status if exited else -found.si_status
                    os.close(self._pidfd)
            return self._status


def _can_wait(program: str) -> bool:
    """Whether it is no script: a library would have the script's interpreter wait."""
    try:
        with Path(program).open("rb") as file:
            return file.read(len(_ELF)) == _ELF
    except OSError:
        return False


class Launcher:
    """A program that is loaded and waits to be forked. It ends with this process.

    :param before: Start of the command, see :func:`pytest_memtype.machine.process.dying_with_us`.
    :raises OSError: it can't be started.
    """

    def __init__(self, program: str, library: Path, *, before: Sequence[str]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(_PATIENCE)
        self._socket = ours
        with theirs, library.open("rb") as file:
            # By its number, because a path may have a space or a colon, which end one in this variable.
            preloaded = f"LD_PRELOAD=/proc/self/fd/{file.fileno()}"
            # What isn't held up by the library says its version and ends.
            command = [program, "--version", " " * _ROOM]
            self._process: subprocess.Popen[bytes] = subprocess.Popen(
                [*before, "env", preloaded, f"{_VARIABLE}=1", *command],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[file.fileno()],
                start_new_session=True,
            )

    def launch(self, command: Sequence[str], *, pass_fds: Sequence[int], output: int) -> Child | None:
        """Fork it.

        :param command: Program and arguments, for the process to be started with.
        :param pass_fds: Descriptors it inherits, under the same numbers.
        :param output: Descriptor for its standard output and error.
        :return: None if that isn't possible.
        """
        variables = [f"{name}={value}" for name, value in os.environ.items()]
        strings = b"".join(os.fsencode(each) + b"\0" for each in (*command, *variables))
        here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            files = [here, nothing, output, output, *pass_fds]
            wanted = [-1, 0, 1, 2, *pass_fds]
            padding = [-1] * (_MAX_FILES - len(wanted))
            request = _REQUEST.pack(os.getpid(), len(command), len(variables), len(files), *wanted, *padding)
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))
            self._socket.sendmsg([request + strings], [rights])
            answer = self._socket.recv(_ANSWER.size)
        except OSError:
            return None
        finally:
            os.close(here)
            os.close(nothing)
        pid = _ANSWER.unpack(answer)[0] if len(answer) == _ANSWER.size else 0
        return Child(pid) if pid > 0 else None

    def close(self) -> None:
        """End it. What it has forked goes on."""
        self._socket.close()
        self._process.kill()
        self._process.wait()


@functools.cache
def _launchers(_pid: int) -> dict[str, Launcher | None]:
    # Keyed by the process id, because another process is not the parent of what these fork.
    return {}


@atexit.register
def _close_all() -> None:
    for launcher in _launchers(os.getpid()).values():
        if launcher is not None:
            launcher.close()


def launch(
    command: Sequence[str], library: Path, *, before: Sequence[str], pass_fds: Sequence[int], output: int
) -> Child | None:
    """Start a command by its program's launcher, which the first call starts. Threads take turns.

    :return: None if it can't be started this way; once that was so for a program, it stays so.
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
