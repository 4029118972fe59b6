"""Programs that are run to their end for what they print."""

from __future__ import annotations

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
    """Run a program that reads nothing. Both its outputs are ``stdout``.

    :param command: The program and its arguments.
    :param cwd: The folder to run it in; None: the current one.
    :param env: Its environment; None: this process's.
    :param timeout: Seconds after which it is killed; None: never.
    :raises subprocess.TimeoutExpired: it was not done by then.
    """
    return subprocess.run(
        command,
        cwd=cwd,
        env=env,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
