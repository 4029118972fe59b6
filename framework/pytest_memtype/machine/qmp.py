"""QMP, one call at a time: a synchronous interface to ``qemu.qmp``."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from qemu.qmp import ExecuteError, Message, QMPClient, QMPError, Runstate

from pytest_memtype.errors import GuestError, GuestExited, GuestPanicked
from pytest_memtype.host import background
from pytest_memtype.machine.timeouts import COMMAND, EXIT, START
from pytest_memtype.machine.wait import Waiter, deadline_after

# The end of QEMU is raised to our caller; without a handler Python would print the library's message, too.
logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())

Event = dict[str, Any]

# Bytes of the longest message: "info tlb" of a guest with 2 GiB in pages of 4 KiB answers with 28 MB.
_LONGEST = 256 << 20


class Qmp:
    """The control connection to a QEMU. One thread at a time may call it.

    :param end: Our end of the socket pair.
    :param transcript: File that takes every message, with the seconds since the start.
    :param waiter: The machine.
    :param timeout: Seconds that QEMU has until its greeting.
    :ivar listeners: Called with each event, on the background thread, before any answer that follows it.
    :raises GuestExited: QEMU ended before its greeting.
    :raises GuestHung: QEMU's greeting didn't come in time.
    """

    def __init__(
        self, end: socket.socket, *, transcript: Path, waiter: Waiter, timeout: float = START
    ) -> None:
        self.listeners: list[Callable[[Event], None]] = []
        self._events: list[Event] = []
        self._waiter = waiter
        self._start = time.monotonic()
        self._transcript = transcript.open("a", buffering=1)
        self._lock = threading.Lock()
        self._done = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._client = _Client(self._record)
        try:
            self._call(self._client.connect(end), doing="starting QEMU", timeout=timeout)
        except BaseException:
            self.close()
            raise

    @property
    def events(self) -> tuple[Event, ...]:
        """The events so far, as QEMU's QMP reference describes them."""
        return tuple(self._events)

    def execute(
        self, command: str, arguments: Mapping[str, object] | None = None, *, timeout: float = COMMAND
    ) -> Any:
        """Carry out a QMP command, and return QEMU's answer.

        :param command: The name of a QMP command.
        :param arguments: The command's arguments by name; None for none.
        :param timeout: Seconds that QEMU has for its answer.
        :raises GuestExited: QEMU ended before it answered.
        :raises GuestError: QEMU refused the command.
        :raises GuestHung: the answer didn't come in time.
        """
        doing = f"waiting for QEMU's answer to {command!r}"
        return self._call(self._client.execute(command, arguments), doing=doing, timeout=timeout)

    def give(self, name: str, descriptor: int) -> None:
        """Give QEMU a descriptor, which its commands then know as ``fd:NAME``.

        :param name: The name that QEMU is to know the descriptor by.
        :param descriptor: An open descriptor of this process; QEMU gets a copy.
        :raises GuestError: QEMU refused it, ended, or didn't answer in time, see :meth:`execute`.
        """
        doing = f"giving QEMU the descriptor {name!r}"
        self._call(_send(self._client, descriptor), doing=doing, timeout=COMMAND)
        self.execute("getfd", {"fdname": name})

    def wait_for_event(
        self, wanted: Callable[[Event], bool], *, doing: str, after: int = 0, timeout: float = COMMAND
    ) -> Event:
        """The first event, past or to come, for which ``wanted`` returns true.

        :param wanted: Called with each event, in order.
        :param doing: What the wait is for, for the error.
        :param after: The number of earlier events to leave out.
        :param timeout: Seconds to wait at most.
        :raises GuestExited: QEMU ended first.
        :raises GuestHung: the event didn't come in time.
        """
        deadline = deadline_after(timeout)
        while True:
            for event in self.events[after:]:
                if wanted(event):
                    return event
            if not self._waiter.ready(readable=[self._done], timeout=deadline - deadline_after(0)):
                raise self._waiter.hung(doing, timeout)
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._done)

    def settle(self) -> None:
        """Wait until the last messages of a QEMU that is gone are in :attr:`events`."""
        self._quietly(_closed(self._client), EXIT)

    def close(self) -> None:
        """Close the control connection. Calling this again does nothing."""
        if self._done < 0:
            return
        self._quietly(_disconnect(self._client), EXIT)
        with self._lock:
            os.close(self._done)
            self._done = -1
        self._transcript.close()

    def _call(self, coroutine: Any, *, doing: str, timeout: float) -> Any:
        future = background.submit(coroutine)
        future.add_done_callback(lambda _: self._wake())
        deadline = deadline_after(timeout)
        while not future.done():
            try:
                answered = self._waiter.ready(readable=[self._done], timeout=deadline - deadline_after(0))
            except (GuestExited, GuestPanicked):
                # The thread that reads QEMU's last answer (``quit`` has one) may be a step behind.
                concurrent.futures.wait([future], EXIT)
                if not future.done():
                    raise
                break
            if not answered:
                # The call stays pending, so that a late answer still has an owner.
                raise self._waiter.hung(doing, timeout)
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._done)
        try:
            return future.result()
        except ExecuteError as error:
            raise GuestError(f"QEMU refused while {doing}: {error}") from error
        except QMPError as error:
            raise self._waiter.ended(doing) from error

    def _wake(self) -> None:
        # A call that was given up may end while the descriptor is closed, and its number used again.
        with self._lock:
            if self._done >= 0:
                os.eventfd_write(self._done, 1)

    def _record(self, direction: str, message: Message) -> None:
        if not self._transcript.closed:
            seconds = time.monotonic() - self._start
            self._transcript.write(f"{seconds:9.3f} {direction} {json.dumps(dict(message))}\n")
        if "event" in message:
            event = dict(message)
            self._events.append(event)
            for listener in self.listeners:
                listener(event)
            self._wake()

    def _quietly(self, coroutine: Any, timeout: float) -> None:
        future = background.submit(coroutine)
        try:
            future.result(timeout)
        except TimeoutError:
            future.cancel()


class _Client(QMPClient):
    """A QMP client that shows every message to a function, in order, before anything else sees it."""

    def __init__(self, record: Callable[[str, Message], None]) -> None:
        super().__init__("memtype", readbuflen=_LONGEST)
        self._record = record

    def _cb_outbound(self, msg: Message) -> Message:
        self._record("->", msg)
        return super()._cb_outbound(msg)

    def _cb_inbound(self, msg: Message) -> Message:
        self._record("<-", msg)
        return super()._cb_inbound(msg)


async def _closed(client: QMPClient) -> None:
    while client.runstate in (Runstate.CONNECTING, Runstate.RUNNING):
        await client.runstate_changed()


async def _send(client: QMPClient, descriptor: int) -> None:
    client.send_fd_scm(descriptor)


async def _disconnect(client: QMPClient) -> None:
    if client.runstate is not Runstate.IDLE:
        # It raises the error that ended the connection, which is known already.
        with contextlib.suppress(Exception):
            await client.disconnect()
