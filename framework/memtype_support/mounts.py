"""Mounts of a test's own, in a mount namespace that only its processes see."""

from __future__ import annotations

import subprocess
from typing import Final

import pytest

#: Runs the command behind it where it may mount. It needs no root: the namespace of users is new, too.
OWN_MOUNTS: Final = ("unshare", "-rm")

# All that the tests do there: a small disk.
_TRIAL: Final = 'mount -t tmpfs -o size=64k none "$0"'


def refusal(command: tuple[str, ...] = OWN_MOUNTS) -> str | None:
    """Why this host doesn't let a process mount something for itself, as it says now; None where it does.

    :param command: Makes the namespace: ``unshare`` and its options.
    """
    try:
        done = subprocess.run(
            [*command, "sh", "-c", _TRIAL, "/tmp"], capture_output=True, text=True, check=False, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
    return f"{' '.join(command)}: {said[-1]}"


def require(command: tuple[str, ...] = OWN_MOUNTS) -> None:
    """Skip a test where :func:`refusal` has a reason, with it.

    :param command: Makes the namespace: ``unshare`` and its options.
    """
    reason = refusal(command)
    if reason is not None:
        pytest.skip(f"this host allows no mounts of one's own: {reason}")
