"""Timeouts of all waits, in seconds. Every call that waits takes another value as a parameter.

``MEMTYPE_PATIENCE`` in the environment is a factor for all of them, for hosts that are far slower than those
the values are for, such as a host that is emulated itself. The factor is at least 1, and at most 1000.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

from pytest_memtype.errors import UsageError

_VARIABLE: Final = "MEMTYPE_PATIENCE"
_MOST: Final = 1000.0


def patience() -> float:
    """The factor that the user asks for.

    :raises UsageError: it is no number, or waits would be longer than anybody's patience.
    """
    text = os.environ.get(_VARIABLE) or "1"
    with contextlib.suppress(ValueError):
        # One that is no number isn't below another either.
        if float(text) <= _MOST:
            return max(1.0, float(text))
    raise UsageError(f"{_VARIABLE}={text!r} in the environment is no factor from 1 to {_MOST:g}")


def _patience() -> float:
    # The command and the plugin say what is wrong with it; an import is no place for that.
    with contextlib.suppress(UsageError):
        return patience()
    return 1.0


_PATIENCE: Final = _patience()

#: From ``cont`` to the agent's first word. Debian's 6.1 cloud kernel needs 2 s under TCG on an idle host.
BOOT: Final = 120.0 * _PATIENCE

#: From ``cont`` to the sshd of a distribution. Debian 12 needs 25 s under TCG on an idle host.
DISTRIBUTION_BOOT: Final = 240.0 * _PATIENCE

#: A command of the agent, a QMP command, or an ``expect``.
COMMAND: Final = 60.0 * _PATIENCE

#: Between a request and the first sign of life, and between two of them: a busy agent gives one a second.
HEARTBEAT: Final = 10.0 * _PATIENCE

#: For each byte of an answer that comes in parts: a tenth of the speed of TCG's serial line on an idle host.
BYTE: Final = _PATIENCE / 20_000

#: QEMU's own start, up to its QMP greeting. It needs 0.05 s on an idle host.
START: Final = 30.0 * _PATIENCE

#: Falling asleep and waking: drivers are asked, CPUs are taken off, and the firmware is entered.
SUSPEND: Final = 60.0 * _PATIENCE

#: The kernel takes memory that is plugged in, or gives it back: page tables and struct pages are made, and
#: all pages are freed, one by one.
HOTPLUG: Final = 60.0 * _PATIENCE

#: A fork of a QEMU that is loaded already. It needs 0.001 s on an idle host.
LAUNCH: Final = 5.0 * _PATIENCE

#: The end of a QEMU that is already dying.
EXIT: Final = 5.0 * _PATIENCE

#: Each step of connecting to a machine by SSH: TCP, keys, authentication.
CONNECT: Final = 30.0 * _PATIENCE

#: A connection shows that it is still there.
SIGN_OF_LIFE: Final = 5.0 * _PATIENCE

#: From the agent's start on such a machine to its greeting. Loading a module takes one second under TCG.
GREETING: Final = 60.0 * _PATIENCE

#: The agent undoes everything there, once it is told to end.
UNDOING: Final = 30.0 * _PATIENCE
