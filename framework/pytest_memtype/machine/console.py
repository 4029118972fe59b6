"""The kernel console of a guest, read during every wait."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

from pytest_memtype.console.text import panic_line, sanitize
from pytest_memtype.errors import GuestFlooded
from pytest_memtype.machine.port import Port
from pytest_memtype.machine.wait import Waiter
from pytest_memtype.x86.size import format_size

#: The most bytes that a guest may print, or a target in one test. A whole boot with ``debug ignore_loglevel``
#: prints 0.1 MiB; a storm of warnings passes this in seconds.
FLOOD: Final = 16 << 20

#: Bytes of output that are kept in memory for the end of a message; the log file has all of it.
TAIL: Final = 64 << 10


class Console(Port):
    """The kernel's console, ttyS0. It is read during every wait of the machine, whatever is waited for.

    :param path: The FIFO pair, which QEMU has open already.
    :param waiter: The machine.
    :param log: The file that QEMU writes the console to.
    :param history: What the console printed before QEMU restored the guest.
    :ivar log: File with all that the console printed, written by QEMU.
    """

    def __init__(self, path: Path, waiter: Waiter, *, log: Path, history: bytes = b"") -> None:
        self._unread = bytearray()
        self._tail = bytearray(history[-TAIL:])
        self._total = 0
        self.log = log
        super().__init__(path, waiter, name="the kernel console")

    def drain(self) -> bool:
        """Read what the guest printed, so that it never waits, for ``expect``. False at the end of file.

        :raises GuestFlooded: It printed more than :data:`FLOOD`.
        """
        while not self.closed and (data := super()._take(1 << 16)) is not None:
            if not data:
                return False
            self._unread += data
            self._tail = (self._tail + data)[-TAIL:]
            self._total += len(data)
            if self._total > FLOOD:
                raise GuestFlooded(
                    f"the guest printed more than {format_size(FLOOD)} on its console; see {self.log}",
                    details=tuple(self.tail(20)),
                )
        return not self.closed

    def begin(self) -> None:
        """Count anew what is printed, for the next test on the same machine; what nobody has read is gone."""
        with contextlib.suppress(GuestFlooded):
            self.drain()
        self._total = 0
        self._unread.clear()

    def tail(self, lines: int) -> list[str]:
        """The last lines that the guest printed, sanitized."""
        return sanitize(bytes(self._tail)).splitlines()[-lines:]

    def panic(self) -> str | None:
        """The line in which the kernel said that it panicked."""
        with contextlib.suppress(GuestFlooded):
            self.drain()
        return panic_line(sanitize(bytes(self._tail)))

    def _take(self, size: int) -> bytes | None:
        alive = self.drain()
        data = bytes(self._unread[:size])
        del self._unread[:size]
        return data if data or not alive else None
