"""The error that says why a guest ended, made from what the guest left behind."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pytest_memtype.console.reports import find_reports
from pytest_memtype.errors import GuestError, GuestExited, GuestHung, GuestPanicked
from pytest_memtype.host.child import describe_status

#: The number of the console's last lines that an error shows.
CONSOLE_LINES: Final = 20

#: The most lines of a panic's report: room for an oops with its registers and call trace.
PANIC_LINES: Final = 80

#: QMP's ShutdownCause (QEMU 7.2, qapi/run-state.json), for ends that are not an error to QEMU.
_REASONS: Final = {
    "guest-reset": "the guest reset itself",
    "guest-shutdown": "the guest powered itself off",
    "guest-panic": "the guest said that it panicked",
    "host-qmp-quit": "QEMU was told to quit",
    "host-signal": "QEMU was ended by a signal",
}

#: Messages of a QEMU that may not do what this process may: strerror() of EACCES and EPERM; that of ENOSYS,
#: which containers' seccomp filters answer to system calls they don't know; and the name of memory that this
#: process has open, of which a QEMU in another process namespace sees nothing.
_FORBIDDEN: Final = re.compile(
    r"Permission denied|Operation not permitted|Function not implemented|/proc/\d+/fd/\d+"
)
_CONFINED: Final = (
    "; where this process may do that, QEMU is confined: by a profile of AppArmor (aa-status) or SELinux, by "
    "a container or snap, or by a seccomp filter"
)
_FILTERED: Final = "; a seccomp filter forbids one of its system calls"


@dataclass(frozen=True)
class ExitFacts:
    """The facts that are known about a guest that ended, or that is given up.

    :param pid: QEMU's process id.
    :param status: QEMU's exit status, negative for a signal, None while it runs.
    :param reason: ``reason`` of QEMU's last SHUTDOWN event; None if there was none.
    :param panic: The console line that begins with "Kernel panic - not syncing"; None if there is none.
    :param console: The console's last lines, sanitized; :data:`PANIC_LINES` are enough.
    :param output: The lines that QEMU itself printed.
    :param logs: Further places to look at: (what, path or command).
    """

    pid: int
    status: int | None
    reason: str | None
    panic: str | None
    console: Sequence[str]
    output: Sequence[str]
    logs: Sequence[tuple[str, str]]


def explain_end(remains: ExitFacts, doing: str = "") -> GuestError:
    """The error for a guest that ended, while its user was ``doing`` something.

    :param remains: The facts; the guest panicked or QEMU has a status.
    :param doing: What the user waited for, for the message; empty for nothing.
    """
    context = f" ({doing})" if doing else ""
    if remains.panic is not None:
        return GuestPanicked(
            f"the guest's kernel panicked{context}: {remains.panic}", details=_details(remains)
        )
    assert remains.status is not None
    if remains.status == 0 and remains.reason in _REASONS:
        what = _REASONS[remains.reason]
    else:
        what = f"QEMU (process {remains.pid}) {describe_status(remains.status)}"
        if remains.output and remains.status > 0:
            what += f": {remains.output[-1]}"
            # The file that it couldn't open isn't the user's: those are checked before.
            if _FORBIDDEN.search(remains.output[-1]):
                what += _CONFINED
        elif remains.status == -signal.SIGSYS:
            what += _FILTERED
    return GuestExited(f"{what}{context}", details=_details(remains))


def explain_hang(remains: ExitFacts, doing: str, timeout: float) -> GuestError:
    """The error for a guest that is alive but did not answer within ``timeout`` seconds."""
    if remains.panic is not None:
        return explain_end(remains, doing)
    seconds = f"{timeout:.3g} s"
    return GuestHung(f"the guest gave no answer for {seconds} ({doing})", details=_details(remains))


def _details(remains: ExitFacts) -> tuple[str, ...]:
    lines = []
    panicked = [each for each in find_reports(remains.console) if each.panicked] if remains.panic else []
    if panicked:
        # Without what was printed before: the log has that.
        lines += ["the kernel reported:", *(f"    {line}" for line in panicked[-1].lines[-PANIC_LINES:])]
    elif remains.console:
        count = CONSOLE_LINES if remains.panic is None else PANIC_LINES
        lines += ["last console lines:", *(f"    {line}" for line in remains.console[-count:])]
    if remains.output:
        lines += ["QEMU printed:", *(f"    {line}" for line in remains.output)]
    lines += [f"{what}: {where}" for what, where in remains.logs]
    return tuple(lines)
