"""Pumps without a target: a log on a full disk, and consoles that can't be opened."""

from __future__ import annotations

import os
import select
import threading
from pathlib import Path

import paramiko
import pytest

from pytest_memtype.errors import UsageError
from pytest_memtype.target.pump import Pump, SerialConsole


def test_a_full_disk_is_not_the_end_of_the_connection(tmp_path: Path) -> None:
    """What comes goes on to whoever waits for it, and the log's trouble is known."""
    pump = Pump(tmp_path / "agent", log=Path("/dev/full"))
    answers = [b"one ", b"two"]
    reading = os.open(tmp_path / "agent.out", os.O_RDONLY | os.O_NONBLOCK)
    try:
        pump.start(lambda: answers.pop(0) if answers else None, lambda _: None)
        got = b""
        while len(got) < 7:
            found, _, _ = select.select([reading, pump.ended], [], [], 60)
            assert found == [reading]
            got += os.read(reading, 64)
        assert got == b"one two"
        assert pump.trouble == "No space left on device"
    finally:
        pump.close()
        os.close(reading)


@pytest.mark.parametrize("error", [OSError("closed"), EOFError(), paramiko.SSHException("no key")])
def test_a_connection_that_is_lost_while_something_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Another thread says so: this one ends without a traceback."""
    ended = threading.Event()
    failed: list[object] = []
    monkeypatch.setattr(threading, "excepthook", failed.append)

    def send(_data: bytes) -> None:
        ended.set()
        raise error

    def receive() -> bytes:
        # The other direction notices it, too.
        ended.wait(60)
        return b""

    pump = Pump(tmp_path / "agent", log=tmp_path / "log")
    pump.start(receive, send)
    with (tmp_path / "agent.in").open("wb") as port:
        port.write(b"request\n")
    assert ended.wait(60)
    pump.close()
    assert failed == []


@pytest.mark.parametrize("where", ["hwgrep://(", "nothing://x", "/dev/nothing", "alt://x?class=VERSION"])
def test_a_console_that_is_none(where: str) -> None:
    with pytest.raises(UsageError, match="it can't be opened") as raised:
        SerialConsole(where)
    assert "\n" not in raised.value.message
