"""The life of a guest, from its boot to its end."""

from __future__ import annotations

import enum


class GuestState(enum.Enum):
    """The state of a guest, from its boot to its end.

    ``booting`` -> ``ready`` <-> ``busy``, ``stopped`` and back from any of these; ``hung`` when it gave no
    answer in time, and back to ``ready`` if it answers later. The rest are ends.
    """

    BOOTING = "booting"
    READY = "ready"
    BUSY = "busy"
    STOPPED = "stopped"
    """Its CPUs are paused, as by QMP ``stop``."""
    HUNG = "hung"
    PANICKED = "panicked"
    """Its kernel panicked, and it ended with that."""
    EXITED = "exited"
    """It ended by itself, or QEMU did."""
    KILLED = "killed"
    """A signal ended QEMU."""

    @property
    def ended(self) -> bool:
        return self in (GuestState.PANICKED, GuestState.EXITED, GuestState.KILLED)


def state_of(*, activity: GuestState, status: int | None, panicked: bool, paused: bool) -> GuestState:
    """The state of a guest, from all that is known of it.

    :param activity: ``booting``, ``ready``, ``busy`` or ``hung``, as its user sees it.
    :param status: QEMU's status: None while it runs, its exit status, or the negative number of a signal.
    :param panicked: Whether the console says that the kernel panicked.
    :param paused: Whether QEMU's last such event was STOP and not RESUME, or it was started paused to load a
        state.
    """
    if status is not None:
        if panicked:
            return GuestState.PANICKED
        return GuestState.KILLED if status < 0 else GuestState.EXITED
    return GuestState.STOPPED if paused else activity
