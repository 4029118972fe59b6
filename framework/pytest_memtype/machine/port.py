"""A serial port of the guest, driven with pexpect."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pexpect
from pexpect.fdpexpect import fdspawn

from pytest_memtype.errors import GuestError
from pytest_memtype.machine.timeouts import COMMAND
from pytest_memtype.machine.wait import Waiter, deadline_after

# pexpect is generic in its stubs alone.
if TYPE_CHECKING:
    _Spawn = fdspawn[bytes]
else:
    _Spawn = fdspawn

#: A boot with debug messages on fits, so the guest need not wait for a test that is busy with something else.
CAPACITY: Final = 1 << 20


def make_fifos(path: Path) -> None:
    """Make the FIFO pair for QEMU's pipe backend: ``.in`` carries bytes to the guest, ``.out`` from it."""
    for direction in (".in", ".out"):
        os.mkfifo(path.with_name(path.name + direction), mode=0o600)


class Port(_Spawn):
    """A serial port of the guest: pexpect's ``expect`` and ``send``, in bytes from end to end.

    A wait ends with :class:`~pytest_memtype.errors.GuestExited` or ``GuestPanicked`` when QEMU ends and with
    ``GuestHung`` at the deadline, unless its patterns include ``pexpect.EOF`` or ``pexpect.TIMEOUT``.

    :param path: The FIFO pair, which QEMU has open already.
    :param waiter: The machine.
    :param name: The port's name in messages.
    :ivar purpose: The purpose of the wait in messages; None makes them name the patterns.
    """

    def __init__(self, path: Path, waiter: Waiter, *, name: str) -> None:
        descriptor = os.open(path.with_name(path.name + ".out"), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        super().__init__(descriptor, timeout=COMMAND, maxread=1 << 16)
        self.name = name
        self.purpose: str | None = None
        self._waiter = waiter
        self._input = -1
        # The kernel limits the pipe memory of a user; pipe(7), "pipe-user-pages-soft".
        with contextlib.suppress(PermissionError):
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, CAPACITY)
        try:
            self._input = os.open(
                path.with_name(path.name + ".in"), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
            )
        except OSError as error:
            self.close()
            # ENXIO: no process has the other end open.
            raise waiter.ended(f"opening {name}") from error

    def close(self) -> None:
        """Close this process's side of the port. Calling this again does nothing."""
        super().close()
        if self._input >= 0:
            os.close(self._input)
            self._input = -1

    def send(self, s: str | bytes, *, timeout: float = COMMAND) -> int:
        """Write to the guest, and return the number of bytes written.

        :param s: Bytes, or text that is sent as UTF-8.
        :param timeout: Seconds that the guest has to make room for it.
        :raises GuestExited: QEMU ended.
        :raises GuestHung: the guest has not read what it was sent before.
        """
        data = s.encode() if isinstance(s, str) else s
        doing = f"writing to {self.name}" + (f" for {self.purpose}" if self.purpose else "")
        if self.closed:
            raise self._waiter.ended(doing)
        deadline = deadline_after(timeout)
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._input, rest) :]
            except BlockingIOError:
                remaining = deadline - deadline_after(0)
                if not self._waiter.ready(writable=[self._input], timeout=remaining):
                    raise self._waiter.hung(doing, timeout) from None
            except BrokenPipeError:
                raise self._waiter.ended(doing) from None
        return len(data)

    def read_nonblocking(self, size: int = 1, timeout: float | None = -1) -> bytes:
        """At most ``size`` bytes, waiting for the first. All waits of pexpect use this.

        :param size: The largest number of bytes to return.
        :param timeout: Seconds to wait; None and -1 stand for
            :data:`~pytest_memtype.machine.timeouts.COMMAND`.
        :raises pexpect.EOF: QEMU closed the port, and all it wrote before was read.
        :raises pexpect.TIMEOUT: nothing came in time.
        """
        seconds = COMMAND if timeout is None or timeout == -1 else timeout
        deadline = deadline_after(seconds)
        while (data := self._take(size)) is None:
            if not self._waiter.ready(readable=[self.child_fd], timeout=deadline - deadline_after(0)):
                raise pexpect.TIMEOUT(f"{seconds:g} s")
        if not data:
            self.flag_eof = True
            raise pexpect.EOF(self.name)
        return data

    def silent(self, seconds: float) -> GuestError:
        """The error that explains why nothing came for ``seconds`` seconds."""
        return self._waiter.hung(f"waiting for {self.purpose} on {self.name}", seconds)

    def _take(self, size: int) -> bytes | None:
        """The bytes that can be read now: None if there are none, empty at the end of file."""
        if self.closed:
            return b""
        try:
            return os.read(self.child_fd, size)
        except BlockingIOError:
            return None

    # pexpect's own signatures are four overloads each, for an asyncio mode that a port doesn't have.
    def expect_list(self, pattern_list: Any, timeout: float | None = -1, *args: Any, **kwargs: Any) -> int:  # type: ignore[override]
        """Wait for one of several compiled patterns, as pexpect does; raises as the class says."""
        return self._explained(super().expect_list, pattern_list, timeout, *args, **kwargs)

    def expect_exact(self, pattern_list: Any, timeout: float | None = -1, *args: Any, **kwargs: Any) -> int:  # type: ignore[override]
        """Wait for one of several plain strings, as pexpect does; raises as the class says."""
        return self._explained(super().expect_exact, pattern_list, timeout, *args, **kwargs)

    def _explained(self, method: Any, patterns: Any, timeout: float | None, *args: Any, **kwargs: Any) -> int:
        seconds = COMMAND if timeout is None or timeout == -1 else timeout
        doing = f"waiting for {self.purpose or _describe(patterns)} on {self.name}"
        try:
            index: int = method(patterns, seconds, *args, **kwargs)
        except pexpect.EOF:
            raise self._waiter.ended(doing) from None
        except pexpect.TIMEOUT:
            raise self._waiter.hung(doing, seconds) from None
        return index


def _describe(patterns: Any) -> str:
    """The patterns of an ``expect``, as the caller wrote them."""
    many = patterns if isinstance(patterns, list) else [patterns]
    texts = [getattr(pattern, "pattern", pattern) for pattern in many if not isinstance(pattern, type)]
    shown = [
        repr(text.decode(errors="backslashreplace") if isinstance(text, bytes) else text) for text in texts
    ]
    return " or ".join(shown) or "the end"
