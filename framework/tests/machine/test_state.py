"""What each source says of a guest's state, and which one has the last word."""

from __future__ import annotations

import pytest

from pytest_memtype.machine.state import GuestState, state_of

BUSY, READY = GuestState.BUSY, GuestState.READY


@pytest.mark.parametrize("activity", [GuestState.BOOTING, READY, BUSY, GuestState.HUNG])
def test_alive(activity: GuestState) -> None:
    assert state_of(activity=activity, status=None, panicked=False, paused=False) is activity
    assert state_of(activity=activity, status=None, panicked=False, paused=True) is GuestState.STOPPED
    assert not activity.ended


@pytest.mark.parametrize(
    ("status", "panicked", "state"),
    [
        (0, False, GuestState.EXITED),
        (1, False, GuestState.EXITED),
        (-9, False, GuestState.KILLED),
        # panic=-1 with -no-reboot: QEMU ends well, but the console knows better.
        (0, True, GuestState.PANICKED),
    ],
)
@pytest.mark.parametrize("paused", [True, False])
def test_ended(status: int, panicked: bool, state: GuestState, paused: bool) -> None:
    assert state_of(activity=BUSY, status=status, panicked=panicked, paused=paused) is state
    assert state.ended
