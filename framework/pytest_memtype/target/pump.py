"""Pumps: threads that move bytes between a target and the FIFO pair that a port reads, and log them."""

from __future__ import annotations

import os
import re
import select
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import paramiko
import serial

from pytest_memtype.errors import UsageError
from pytest_memtype.machine.port import make_fifos

_PIECE = 1 << 16
_BAUD = 115200

#: Seconds after which a waiting thread checks whether it shall end.
_TURN = 0.2

#: The errors of a connection that is lost. Until paramiko's own thread has noticed it, that is an EOFError
#: (5.1, packet.py, write_all()).
LOST: Final = (OSError, EOFError, paramiko.SSHException)


class Pump:
    """A FIFO pair, as QEMU would have it open, and the threads that serve it.

    :param path: Path of the pair without its endings; the pair is made.
    :param log: File to which bytes from the target are appended.
    :ivar ended: A descriptor that becomes readable when nothing more will come from the target.
    :ivar trouble: Why the log lacks something; empty while it is whole.
    """

    def __init__(self, path: Path, *, log: Path) -> None:
        make_fifos(path)
        # Both ways: opening a FIFO to write waits for a reader otherwise.
        self._out = os.open(path.with_name(path.name + ".out"), os.O_RDWR | os.O_CLOEXEC)
        self._in = os.open(path.with_name(path.name + ".in"), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self.ended, self._end = os.pipe2(os.O_CLOEXEC)
        self.trouble = ""
        self._log = log.open("ab", buffering=0)
        self._threads: list[threading.Thread] = []
        self._closing = threading.Event()

    def start(self, receive: Callable[[], bytes | None], send: Callable[[bytes], None]) -> None:
        """Move bytes until :meth:`close`.

        :param receive: Called without arguments, waits a moment for bytes from the target; returns None when
            there are none yet, and empty bytes at the end.
        :param send: Called with bytes for the target.
        """
        for work in (lambda: self._from_target(receive), lambda: self._to_target(send)):
            thread = threading.Thread(target=work, name="memtype-target", daemon=True)
            thread.start()
            self._threads.append(thread)

    def _from_target(self, receive: Callable[[], bytes | None]) -> None:
        try:
            while not self._closing.is_set():
                data = receive()
                if data:
                    self._note(data)
                    self._deliver(data)
                elif data is not None:
                    break
        finally:
            os.close(self._end)

    def _note(self, data: bytes) -> None:
        # The target answers all the same. QEMU, too, leaves out of a log what it can't write (7.2,
        # chardev/char.c, qemu_chr_write_log()).
        try:
            self._log.write(data)
        except OSError as error:
            self.trouble = error.strerror or str(error)

    def _deliver(self, data: bytes) -> None:
        while data and not self._closing.is_set():
            _, writable, _ = select.select([], [self._out], [], _TURN)
            if writable:
                # A FIFO that can be written without waiting has room for PIPE_BUF bytes (pipe(7)).
                data = data[os.write(self._out, data[: select.PIPE_BUF]) :]

    def _to_target(self, send: Callable[[bytes], None]) -> None:
        while not self._closing.is_set():
            readable, _, _ = select.select([self._in], [], [], _TURN)
            if not readable:
                continue
            try:
                data = os.read(self._in, _PIECE)
            except BlockingIOError:
                continue
            if not data:
                # The port isn't open yet, or not any more.
                self._closing.wait(_TURN / 10)
                continue
            try:
                send(data)
            except LOST:
                return  # The other direction notices that the connection is gone.

    def close(self) -> None:
        """End the threads. Calling this again does nothing."""
        if self._closing.is_set():
            return
        self._closing.set()
        for thread in self._threads:
            thread.join()
        if not self._threads:
            os.close(self._end)
        for descriptor in (self._out, self._in, self.ended):
            os.close(descriptor)
        self._log.close()


def from_channel(channel: paramiko.Channel) -> Callable[[], bytes | None]:
    """A function that receives from a channel of SSH, for :meth:`Pump.start`."""
    channel.settimeout(_TURN)

    def receive() -> bytes | None:
        try:
            return channel.recv(_PIECE)
        except TimeoutError:
            return None
        except LOST:
            return b""

    return receive


class SerialConsole:
    """A serial console: a serial line, or the ``socket://host:port`` of a terminal server or QEMU.

    :param where: The serial device, or that address.
    :raises UsageError: the console can't be opened.
    """

    def __init__(self, where: str) -> None:
        try:
            self._serial = serial.serial_for_url(where, baudrate=_BAUD, timeout=_TURN, write_timeout=5)
        except (OSError, ValueError, TypeError, AttributeError, re.error) as error:
            raise UsageError(f"--console {where!r}: it can't be opened: {error}") from None

    def receive(self) -> bytes | None:
        """Receive bytes, as ``receive`` of :meth:`Pump.start`."""
        try:
            return self._serial.read(max(1, self._serial.in_waiting)) or None
        except (OSError, ValueError, TypeError):
            return b""

    def send(self, data: bytes) -> None:
        """Write bytes to the console."""
        self._serial.write(data)

    def close(self) -> None:
        self._serial.close()
