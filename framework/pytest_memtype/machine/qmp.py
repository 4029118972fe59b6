"""QMP, one call at a time: a synchronous interface to ``qemu.qmp``, for our QEMUs and those of others."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import logging
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from qemu.qmp import ExecuteError, Message, QMPClient, QMPError, Runstate

from pytest_memtype.errors import GuestError, GuestExited, GuestHung, GuestPanicked, UsageError, reason
from pytest_memtype.host import background
from pytest_memtype.machine.timeouts import COMMAND, EXIT, START
from pytest_memtype.machine.wait import Waiter, deadline_after, poll

# The end of QEMU is raised to our caller; without a handler Python would print the library's message, too.
logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())

Event = dict[str, Any]
_Answer = TypeVar("_Answer")

# Bytes of the longest message: "info tlb" of a guest with 2 GiB in pages of 4 KiB answers with 28 MB.
_LONGEST = 256 << 20
# The same for a QEMU of somebody else, who may mean ill: "info mtree -f" is the longest that it is asked for.
_LONGEST_OF_OTHERS = 10 << 20


def connected(path: Path, *, timeout: float = START) -> socket.socket:
    """Connect to the QMP socket of a QEMU that isn't ours.

    :param path: The socket.
    :param timeout: Seconds to wait at most until the connection is accepted.
    :raises UsageError: nothing listens there, or the connection isn't accepted in time.
    """
    connection = socket.socket(socket.AF_UNIX)
    try:
        # A peer that doesn't accept lets the next connection wait for ever once its queue is full.
        # Python's own timeout doesn't wait at all on such a socket, but fails at once (unix(7), EAGAIN).
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(timeout))
        connection.connect(str(path))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(0))
    except BlockingIOError:
        connection.close()
        raise _no_qemu(path, f"it takes no connection in {timeout:.0f} s") from None
    except OSError as error:
        connection.close()
        raise _no_qemu(path, reason(error)) from None
    return connection


def qmp_of_another(connection: socket.socket, name: object, *, timeout: float = START) -> Qmp:
    """Begin to talk to a QEMU that isn't ours. To close the control connection lets it run on.

    :param connection: Our end of a connected socket.
    :param name: What it is connected to, for messages.
    :param timeout: Seconds that QEMU has until its greeting.
    :raises UsageError: nothing answers there, or it isn't QEMU.
    """
    try:
        return Qmp(connection, waiter=_Another(), timeout=timeout, longest=_LONGEST_OF_OTHERS)
    except GuestError as error:
        raise _no_qemu(name, _one_line(error.__cause__ or error)) from None


def _no_qemu(name: object, why: str) -> UsageError:
    return UsageError(
        f"no QEMU answers at {name}: {why}; start it with -qmp unix:PATH,server=on,wait=off, and let nobody "
        "else be connected to it"
    )


def _timeval(seconds: float) -> bytes:
    return struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))


def _one_line(error: BaseException) -> str:
    # The library's errors have several lines, and QEMU's own words may have.
    return " ".join(str(error).split()) or type(error).__name__


class Qmp:
    """The control connection to a QEMU. One thread at a time may call it.

    :param end: Our end of the socket pair.
    :param waiter: The machine.
    :param transcript: File that takes every message, with the seconds since the start; None for none.
    :param timeout: Seconds that QEMU has until its greeting.
    :param longest: Bytes of the longest message that QEMU may send.
    :ivar listeners: Called with each event, on the background thread, before any answer that follows it.
    :raises GuestExited: QEMU ended before its greeting.
    :raises GuestHung: QEMU's greeting didn't come in time.
    """

    def __init__(
        self,
        end: socket.socket,
        *,
        waiter: Waiter,
        transcript: Path | None = None,
        timeout: float = START,
        longest: int = _LONGEST,
    ) -> None:
        self.listeners: list[Callable[[Event], None]] = []
        self._events: list[Event] = []
        self._waiter = waiter
        self._start = time.monotonic()
        self._transcript = transcript.open("a", buffering=1) if transcript is not None else None
        self._lock = threading.Lock()
        self._done = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._client = _Client(self._record, longest)
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
        self,
        command: str,
        arguments: Mapping[str, object] | None = None,
        *,
        descriptor: int | None = None,
        timeout: float = COMMAND,
    ) -> Any:
        """Carry out a QMP command, and return QEMU's answer.

        :param command: The name of a QMP command.
        :param arguments: The command's arguments by name; None for none.
        :param descriptor: An open descriptor of this process for a command that takes one: QEMU gets a copy.
        :param timeout: Seconds that QEMU has for its answer.
        :raises GuestExited: QEMU ended before it answered.
        :raises GuestError: QEMU refused the command.
        :raises GuestHung: the answer didn't come in time.
        """
        doing = f"waiting for QEMU's answer to {command!r}"
        coroutine = _execute(self._client, command, arguments, descriptor)
        return self._call(coroutine, doing=doing, timeout=timeout)

    def ask(
        self, kind: type[_Answer], command: str, arguments: Mapping[str, object] | None = None
    ) -> _Answer:
        """Carry out a QMP command, and check that its answer is of one kind; a stranger may say anything.

        :param kind: The type that the answer has to have, of which msgspec makes one: ``str``, a list of
            structs. Members that it doesn't name are left out.
        :param command: The name of a QMP command.
        :param arguments: The command's arguments by name; None for none.
        :raises GuestError: the answer is of another kind, or as :meth:`execute`.
        """
        answer = self.execute(command, arguments)
        try:
            return msgspec.convert(answer, kind)
        except msgspec.ValidationError as error:
            raise GuestError(f"its answer to {command!r} isn't one of QEMU's: {error}") from None

    def monitor(self, command: str) -> str:
        """Carry out a command of QEMU's human monitor, and return its output; errors as :meth:`ask`."""
        return self.ask(str, "human-monitor-command", {"command-line": command})

    def give(self, name: str, descriptor: int) -> None:
        """Give QEMU a descriptor, which its commands then know as ``fd:NAME``.

        :param name: The name that QEMU is to know the descriptor by.
        :param descriptor: An open descriptor of this process; QEMU gets a copy.
        :raises GuestError: QEMU refused it, ended, or didn't answer in time, see :meth:`execute`.
        """
        self.execute("getfd", {"fdname": name}, descriptor=descriptor)

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

    def hung(self, doing: str, timeout: float) -> GuestError:
        """The error that explains a deadline of ``timeout`` seconds, of a wait beside this connection.

        :param doing: What the wait was for.
        :param timeout: The seconds that QEMU had.
        """
        return self._waiter.hung(doing, timeout)

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
        if self._transcript is not None:
            with contextlib.suppress(OSError):
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
            raise GuestError(f"QEMU refused while {doing}: {_one_line(error)}") from error
        except (QMPError, OSError) as error:
            raise self._waiter.ended(doing) from error

    def _wake(self) -> None:
        # A call that was given up may end while the descriptor is closed, and its number used again.
        with self._lock:
            if self._done >= 0:
                os.eventfd_write(self._done, 1)

    def _record(self, direction: str, message: Message) -> None:
        if self._transcript is not None and not self._transcript.closed:
            seconds = time.monotonic() - self._start
            # A full disk costs the transcript, and not the connection, which ends with an error in here.
            with contextlib.suppress(OSError):
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


class _Another:
    """The waiter for a QEMU whose process isn't ours to watch: the end of its connection is its end."""

    def ready(self, *, readable: Iterable[int] = (), writable: Iterable[int] = (), timeout: float) -> bool:
        """Wait for one of some descriptors. False at the deadline."""
        return bool(poll(readable, writable, deadline_after(timeout)))

    def ended(self, doing: str) -> GuestError:
        """The error that says that the connection ended."""
        return GuestExited(f"its connection ended ({doing})")

    def hung(self, doing: str, timeout: float) -> GuestError:
        """The error that explains a deadline of ``timeout`` seconds."""
        return GuestHung(f"no answer for {timeout:g} s ({doing})")


class _Client(QMPClient):
    """A QMP client that shows every message to a function, in order, before anything else sees it."""

    def __init__(self, record: Callable[[str, Message], None], longest: int) -> None:
        super().__init__("memtype", readbuflen=longest)
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


async def _execute(
    client: QMPClient, command: str, arguments: Mapping[str, object] | None, descriptor: int | None
) -> object:
    if descriptor is not None:
        # It would assert that there is a connection.
        if client.runstate is not Runstate.RUNNING:
            raise QMPError("the connection has ended")
        client.send_fd_scm(descriptor)
    return await client.execute(command, arguments)


async def _disconnect(client: QMPClient) -> None:
    if client.runstate is not Runstate.IDLE:
        # It raises the error that ended the connection, which is known already.
        with contextlib.suppress(Exception):
            await client.disconnect()
