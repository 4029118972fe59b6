"""The life of a guest, from its boot to its end."""

from __future__ import annotations

import enum


class GuestState(enum.Enum):
    """Where a guest is in its life.

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
    """The state, by all that is known.

    :param activity: ``booting``, ``ready``, ``busy`` or ``hung``, as its user sees it.
    :param status: Of QEMU: None while it runs, its exit status, or the negative number of a signal.
    :param panicked: The console says that the kernel panicked.
    :param paused: QEMU's last word was STOP and not RESUME, or it was started so.
    """
    if status is not None:
        if panicked:
            return GuestState.PANICKED
        return GuestState.KILLED if status < 0 else GuestState.EXITED
    return GuestState.STOPPED if paused else activity
