"""A target's machine whose connection is a stub: what is left there, and how its threads end."""

from __future__ import annotations

import threading
from pathlib import Path, PurePosixPath
from typing import Any

import paramiko
import pytest

from pytest_memtype.errors import GuestError, GuestFlooded
from pytest_memtype.machine import console as console_module
from pytest_memtype.machine.console import Console
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.ssh.connection import Finished
from pytest_memtype.ssh.deploy import Deployed
from pytest_memtype.target.machine import TargetMachine
from pytest_memtype.target.permission import TargetConfig
from pytest_memtype.target.pump import Pump
from pytest_memtype.target.target import Target

FOLDER = PurePosixPath("/run/memtype-12345678")


class Stub:
    """A connection, or a console, which notes what becomes of it."""

    def __init__(self) -> None:
        self.noted: list[str] = []

    def run(self, command: str, **_: object) -> Finished:
        self.noted.append(command)
        return Finished(0, "")

    def close(self) -> None:
        self.noted.append("closed")


def test_logs_that_can_not_be_made_leave_nothing_on_the_machine(tmp_path: Path) -> None:
    """As on a full disk."""
    (tmp_path / "file").touch()
    connection: Any = Stub()
    console: Any = Stub()
    with pytest.raises(NotADirectoryError):
        TargetMachine(
            connection,
            Deployed(FOLDER, FOLDER / "agent", FOLDER / "memtype.ko"),
            TargetConfig(memory=()),
            console=console,
            hardware=Hardware(),
            logs=tmp_path / "file" / "target-1",
            rerun="memtype run",
        )
    assert connection.noted == [f"rm -rf {FOLDER}", "closed"]
    assert console.noted == ["closed"]


@pytest.mark.parametrize("error", [OSError("closed"), EOFError(), paramiko.SSHException("no key")])
def test_a_sign_of_life_that_does_not_arrive_is_not_the_last(error: Exception) -> None:
    machine = TargetMachine.__new__(TargetMachine)
    machine._stop, machine._sending = threading.Event(), threading.Lock()
    sent: list[bytes] = []

    class Channel:
        def sendall(self, data: bytes) -> None:
            sent.append(data)
            if len(sent) == 2:
                machine._stop.set()
            raise error

    channel: Any = Channel()
    machine._channel = channel
    machine._keep_alive(0.001)
    assert sent == [b"alive\n"] * 2


class Waiter:
    """A machine that waits for nothing, for a console of its own."""

    def ready(self, **_: object) -> bool:
        return False

    def ended(self, doing: str) -> GuestError:
        return GuestError(doing)

    def hung(self, doing: str, _timeout: float) -> GuestError:
        return GuestError(doing)


def test_the_console_is_counted_for_each_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run on a target has one console, on which no test floods another."""
    monkeypatch.setattr(console_module, "FLOOD", 1000)
    pump = Pump(tmp_path / "console", log=tmp_path / "log")
    console = Console(tmp_path / "console", Waiter(), log=tmp_path / "log")
    machine = TargetMachine.__new__(TargetMachine)
    machine._console = console
    try:
        for _ in range(3):
            pump._deliver(b"x" * 900)
            assert console.drain()
            machine.begin_test()
        pump._deliver(b"y" * 1001)
        with pytest.raises(GuestFlooded):
            console.drain()
        machine.begin_test()
        pump._deliver(b"new")
        assert console.read_nonblocking(100) == b"new"
    finally:
        console.close()
        pump.close()


def test_a_test_begins_with_a_count_of_its_own() -> None:
    done: list[str] = []

    class Machine:
        alive = True

        def begin_test(self) -> None:
            done.append("begin_test")

    class Agent:
        machine = Machine()

        def call(self, verb: str) -> None:
            done.append(verb)
            raise GuestError("enough")

    target: Any = Target.__new__(Target)
    target._agent, target._machine, target.dry_run = Agent(), Agent.machine, None
    with pytest.raises(GuestError, match="enough"):
        target.guest()
    assert done == ["begin_test", "reset"]
