"""The wait that every channel uses: it ends with its event, QEMU's death, or the deadline."""

from __future__ import annotations

import select
import time
from collections.abc import Iterable
from typing import Final, Protocol

from pytest_memtype.errors import GuestError

# Seconds, 11 days: poll() takes no more than 2**31 milliseconds.
_LONGEST: Final = 1e6


class Waiter(Protocol):
    """The machine as its channels see it: it waits, and it explains ends and deadlines."""

    def ready(self, *, readable: Iterable[int] = (), writable: Iterable[int] = (), timeout: float) -> bool:
        """Wait for one of some descriptors. False at the deadline; end of file counts as readable.

        :param readable: Descriptors to wait for until they can be read.
        :param writable: Descriptors to wait for until they can be written to.
        :param timeout: Seconds to wait at most.
        :raises GuestExited: QEMU ended, and nothing was left to read.
        """

    def ended(self, doing: str) -> GuestError:
        """The error that explains why a channel of QEMU closed."""

    def hung(self, doing: str, timeout: float) -> GuestError:
        """The error that explains a deadline of ``timeout`` seconds."""


def deadline_after(timeout: float) -> float:
    """The moment ``timeout`` seconds from now, on the monotonic clock."""
    return time.monotonic() + timeout


def poll(readable: Iterable[int], writable: Iterable[int], deadline: float) -> set[int]:
    """The descriptors that can be read or written without waiting; empty at the deadline."""
    poller = select.poll()
    for descriptor in writable:
        poller.register(descriptor, select.POLLOUT)
    for descriptor in readable:
        poller.register(descriptor, select.POLLIN)
    remaining = max(0.0, deadline - time.monotonic())
    # Rounded up: a rounded-down wait of 0 ms would spin until the deadline.
    milliseconds = int(min(remaining, _LONGEST) * 1000) + 1
    return {descriptor for descriptor, _ in poller.poll(milliseconds)}
