"""A guest's state, saved from one QEMU and loaded into another."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Mapping
from pathlib import Path

from pytest_memtype.errors import GuestError
from pytest_memtype.machine.machine import Machine
from pytest_memtype.machine.qmp import Qmp
from pytest_memtype.machine.timeouts import COMMAND


def leave_ram_out(qmp: Qmp) -> None:
    """Have states saved or loaded from now on without the memory that is shared with a file.

    QEMU also sends events from then on, so that the end is known.
    """
    _set_capabilities(qmp, {"x-ignore-shared": True, "events": True})


def take_ram_along(qmp: Qmp) -> None:
    """Have states saved or loaded from now on with all memory in them."""
    _set_capabilities(qmp, {"x-ignore-shared": False, "events": True})


def send_events(qmp: Qmp) -> None:
    """Have QEMU send events from now on, so that the end of a migration is known; no more is changed."""
    _set_capabilities(qmp, {"events": True})


def save_state(qmp: Qmp, file: Path) -> None:
    """Have a stopped guest's state written to a new file. The guest stays stopped.

    :param qmp: The control connection of the stopped guest's QEMU, which sends events of migration.
    :param file: The path of the new file; none may be there.
    :raises GuestError: QEMU ended, could not save it, or stalled.
    :raises OSError: the disk is full; the guest can go on.
    """
    doing = "saving the guest's state"
    # Not exec:cat, whose writes may fail, or be unfinished, when QEMU says that all is sent.
    ours, theirs = socket.socketpair()
    # A clone has an event from its own restoration.
    before = len(qmp.events)
    with ours:
        with theirs:
            qmp.give("state", theirs.fileno())
        qmp.execute("migrate", {"uri": "fd:state"})
        ours.settimeout(COMMAND)
        try:
            with ours.makefile("rb") as stream, file.open("xb") as to:
                shutil.copyfileobj(stream, to)
        except OSError as error:
            # First, because QEMU answers no command while it waits to send its devices' state (QEMU 7.2: it
            # is written under the lock that the monitor wants).
            ours.close()
            qmp.execute("migrate_cancel")
            if isinstance(error, TimeoutError):
                raise qmp.hung(doing, COMMAND) from None
            raise
    end = qmp.wait_for_event(
        lambda event: event["event"] == "MIGRATION" and event["data"]["status"] in ("completed", "failed"),
        doing=doing,
        after=before,
    )
    if end["data"]["status"] == "failed":
        raise GuestError("QEMU could not save the guest's state")


def load_state(machine: Machine) -> None:
    """Have a machine that was started with a state load it. The guest stays stopped.

    :param machine: A machine whose configuration has a ``state``.
    :raises GuestExited: QEMU ended, because the state doesn't fit or is damaged.
    """
    machine.qmp.execute("migrate-incoming", {"uri": machine.qemu.state_uri(machine.state_fd)})
    # A state that doesn't load ends QEMU, and so this wait.
    machine.qmp.wait_for_event(
        lambda event: event["event"] == "MIGRATION" and event["data"]["status"] == "completed",
        doing="restoring the guest's state",
    )


def _set_capabilities(qmp: Qmp, capabilities: Mapping[str, bool]) -> None:
    qmp.execute(
        "migrate-set-capabilities",
        {"capabilities": [{"capability": name, "state": state} for name, state in capabilities.items()]},
    )
