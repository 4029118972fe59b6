from __future__ import annotations

import os
import signal
import threading

import pytest

from pytest_memtype import Guest
from pytest_memtype.errors import GuestExited, UsageError


@pytest.mark.needs_config("SUSPEND")
def test_a_guest_that_dies_in_its_sleep_is_not_waited_for(guest: Guest) -> None:
    """Longer than pytest lets a test run, the guest would sleep."""
    ended = threading.Event()

    def kill() -> None:
        while not ended.wait(0.05):
            if any(each["event"] == "SUSPEND" for each in guest.qmp.events):
                os.kill(guest.machine.process.pid, signal.SIGKILL)
                return

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        with pytest.raises(GuestExited):
            guest.suspend(seconds=600)
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize("seconds", [-1.0, 601.0, float("nan")])
def test_how_long_a_guest_may_sleep(guest: Guest, seconds: float) -> None:
    with pytest.raises(UsageError, match="0 to 600 are possible"):
        guest.suspend(seconds=seconds)
