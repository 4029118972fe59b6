"""Waits for an answer end, whatever comes over the agent's line. The guest's end of it is a thread here."""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from pytest_memtype.errors import AgentError, GuestError, GuestExited, GuestHung
from pytest_memtype.guest.agent import Agent
from pytest_memtype.machine.port import Port, make_fifos
from pytest_memtype.machine.state import GuestState
from pytest_memtype.machine.wait import deadline_after, poll

#: Seconds that a request has, and between two bytes of a guest that sends one now and then.
LIMIT, PACE = 0.3, 0.02

#: When a guest here gives up: a hundred times what the request may take.
ENDLESS = int(100 * LIMIT / PACE)


class Host:
    """What an agent needs of its machine, and a port of it."""

    def __init__(self, folder: Path) -> None:
        self.logs = folder
        self.activity = GuestState.READY
        make_fifos(folder / "agent")
        # As QEMU has them open, whose pipes don't block either end.
        self.guest = os.open(folder / "agent.out", os.O_RDWR)
        self._requests = os.open(folder / "agent.in", os.O_RDWR)
        self.agent_port = Port(folder / "agent", self, name="the agent's port")

    def ready(self, *, readable: Iterable[int] = (), writable: Iterable[int] = (), timeout: float) -> bool:
        return bool(poll(readable, writable, deadline_after(timeout)))

    def ended(self, doing: str) -> GuestError:
        return GuestExited(doing)

    def hung(self, doing: str, timeout: float) -> GuestError:
        return GuestHung(f"no answer for {timeout:g} s ({doing})")

    def close(self) -> None:
        self.agent_port.close()
        os.close(self.guest)
        os.close(self._requests)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    made.close()


def framed(payload: bytes) -> bytes:
    return payload + b" *%08x\n" % zlib.crc32(payload)


def call(host: Host, guest: Callable[[threading.Event], None], *, greet: bool = False) -> None:
    """Wait for an answer from a guest, which is told when nobody waits any more."""
    agent = Agent(host, timeout=LIMIT, heartbeat=LIMIT)  # type: ignore[arg-type]
    over = threading.Event()
    thread = threading.Thread(target=guest, args=(over,))
    thread.start()
    try:
        if greet:
            agent.greet(timeout=LIMIT)
        else:
            agent.call("hello")
    finally:
        over.set()
        # A writer may wait for room in the pipe.
        while thread.is_alive():
            poll([host.guest], (), deadline_after(PACE)) and os.read(host.guest, 1 << 16)
            thread.join(PACE)


def drips(host: Host, piece: bytes) -> Callable[[threading.Event], None]:
    def guest(over: threading.Event) -> None:
        for _ in range(ENDLESS):
            if over.wait(PACE):
                return
            os.write(host.guest, piece)

    return guest


def floods(host: Host, piece: bytes) -> Callable[[threading.Event], None]:
    def guest(over: threading.Event) -> None:
        block = piece * (4096 // len(piece))
        for _ in range(64 << 8):
            if over.is_set():
                return
            os.write(host.guest, block)

    return guest


@pytest.mark.parametrize("greet", [False, True], ids=["call", "greeting"])
def test_a_byte_now_and_then_is_no_progress_for_ever(host: Host, *, greet: bool) -> None:
    with pytest.raises(GuestHung, match=r"no answer for 0\.3 s .*bytes of a line have come, slower than any"):
        call(host, drips(host, b"x"), greet=greet)


@pytest.mark.parametrize("line", [b'@77:aa {"log": []}', b'@0 {"busy": 1}'])
def test_lines_now_and_then_that_answer_nothing_end_at_the_deadline(host: Host, line: bytes) -> None:
    with pytest.raises(GuestHung, match=r"no answer for 0\.3 s"):
        call(host, drips(host, framed(line)))


@pytest.mark.parametrize("line", [b'@77:aa {"log": []}', b'@0 {"busy": 1}'])
def test_a_flood_of_lines_that_answer_nothing_ends(host: Host, line: bytes) -> None:
    with pytest.raises(GuestHung, match=r"no answer for 0\.3 s .*lines that answer nothing"):
        call(host, floods(host, framed(line)))


def test_a_flood_before_the_greeting_ends(host: Host) -> None:
    with pytest.raises(GuestHung, match=r"no answer for 0\.3 s .*lines that answer nothing"):
        call(host, floods(host, b"Press any key\n"), greet=True)


@pytest.mark.parametrize("number", [b'"x"', b"null", b"[]", b"1e999"])
def test_a_greeting_whose_errno_is_no_number_is_one_error(host: Host, number: bytes) -> None:
    greeting = framed(b'@0 {"error": "finit_module", "module_errno": %s}' % number)

    def guest(_over: threading.Event) -> None:
        os.write(host.guest, greeting)

    with pytest.raises(AgentError, match="the agent's answer to 'greeting' makes no sense"):
        call(host, guest, greet=True)
