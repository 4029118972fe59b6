"""QEMU as a child process that can't outlive this one."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from pytest_memtype.errors import HostError
from pytest_memtype.host import background
from pytest_memtype.machine.launcher import Child, launch

_Started: TypeAlias = subprocess.Popen[bytes] | Child

_PACKAGES = {"qemu-system-x86_64": "qemu-system-x86", "setpriv": "util-linux"}


class Process:
    """A running command. The kernel kills it when this process ends, however that happens.

    :ivar pid: Its process id.
    :ivar pidfd: A descriptor that becomes readable when it ends.
    :param command: Program and arguments.
    :param pass_fds: Descriptors it inherits, under the same numbers.
    :param output: File that takes its standard output and error.
    :param launcher: A library that makes programs wait to be forked, which saves loading them; see
        :mod:`pytest_memtype.machine.launcher`.
    :raises HostError: The program isn't installed.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        pass_fds: Sequence[int] = (),
        output: Path,
        launcher: Path | None = None,
    ) -> None:
        for program in ("setpriv", command[0]):
            if shutil.which(program) is None:
                package = _PACKAGES.get(program, program)
                raise HostError(f"{program} is not on this host; install the package {package}")
        self._started = _spawn(command, pass_fds, output, launcher)
        self.pid = self._started.pid
        self.pidfd = os.pidfd_open(self.pid)

    @property
    def status(self) -> int | None:
        """None while it runs, then its exit status, or the negative number of the signal that killed it."""
        return self._started.poll()

    def close(self) -> None:
        """Kill it, and wait until it is gone. Calling this again does nothing."""
        self._started.kill()
        self._started.wait()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


def describe_status(status: int) -> str:
    """``ended with status 1``, ``was killed by SIGKILL``."""
    if status >= 0:
        return f"ended with status {status}"
    name = f"signal {-status}"
    with contextlib.suppress(ValueError):
        name = signal.Signals(-status).name
    return f"was killed by {name}"


def dying_with_us(*options: str) -> list[str]:
    """The start of a command that the kernel kills when the thread that started it ends.

    :param options: More of setpriv's, such as ``--reuid=1000``. Those of users have to be here and not behind
        it: who becomes another user loses the signal that he asked for (Linux 6.1, commit_creds).
    """
    # Not preexec_fn, which is unsafe in a process with threads, and this one has some. The shell sees to
    # the moment before setpriv asked for its signal: whose parent is another by then must not start.
    return [
        *("setpriv", *options, "--pdeathsig", "KILL", "--"),
        *("sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"', str(os.getpid())),
    ]


def _spawn(command: Sequence[str], pass_fds: Sequence[int], output: Path, launcher: Path | None) -> _Started:
    before = dying_with_us()

    async def start() -> _Started:
        with output.open("wb") as stream:
            if launcher is not None:
                child = launch(command, launcher, before=before, pass_fds=pass_fds, output=stream.fileno())
                if child is not None:
                    return child
            return subprocess.Popen(
                [*before, *command],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                pass_fds=pass_fds,
                # So that Ctrl-C ends QEMU through us, after its log was read, and not beside us.
                start_new_session=True,
            )

    starting = background.submit(start())
    try:
        return starting.result()
    except KeyboardInterrupt:
        started = starting.result()
        started.kill()
        started.wait()
        raise
