"""Programs that are run to their end for what they print."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def run_to_end(
    command: Sequence[str | Path],
    *,
    cwd: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program that reads nothing, and kill what it has left running. Both its outputs are ``stdout``.

    :param command: The program and its arguments.
    :param cwd: The folder to run it in; None: the current one.
    :param env: Its environment; None: this process's.
    :param timeout: Seconds after which it is killed; None: never.
    :raises subprocess.TimeoutExpired: it was not done by then.
    """
    # A session of its own: make's compilers go on when make alone is killed.
    with subprocess.Popen(
        command,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=timeout)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(command, process.returncode, output)
