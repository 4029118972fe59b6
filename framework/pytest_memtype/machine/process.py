"""QEMU as a child process that can't outlive this one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from pytest_memtype.errors import HostError
from pytest_memtype.host import background
from pytest_memtype.host.child import dying_with_us
from pytest_memtype.machine.launcher import Child, launch

_Started: TypeAlias = subprocess.Popen[bytes] | Child

_PACKAGES = {"qemu-system-x86_64": "qemu-system-x86", "setpriv": "util-linux"}


class ChildProcess:
    """A running command, which the kernel kills when this process ends, however that happens.

    :param command: Program and arguments.
    :param pass_fds: Descriptors that the process inherits, under the same numbers.
    :param output: File that takes the process's standard output and error, behind what it holds.
    :param launcher: A library that makes programs wait to be forked, which saves loading them; see
        :mod:`pytest_memtype.machine.launcher`.
    :ivar pid: The process id.
    :ivar pidfd: A descriptor that becomes readable when the process ends.
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
        try:
            self.pidfd = os.pidfd_open(self.pid)
        except BaseException:
            # Nobody else knows of it yet.
            self.pidfd = -1
            self.close()
            raise

    @property
    def status(self) -> int | None:
        """The exit status of the process, or the negative number of its signal; None while it runs."""
        return self._started.poll()

    def close(self) -> None:
        """Kill the process, and wait until it is gone. Calling this again does nothing."""
        self._started.kill()
        self._started.wait()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


def _spawn(command: Sequence[str], pass_fds: Sequence[int], output: Path, launcher: Path | None) -> _Started:
    before = dying_with_us()

    async def start() -> _Started:
        with output.open("ab") as stream:
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
