import json
import os
import signal
from collections.abc import Callable

import pytest

from pytest_memtype.errors import GuestError, GuestExited, GuestHung
from pytest_memtype.machine.machine import Machine
from pytest_memtype.machine.qmp import Event

Start = Callable[..., Machine]
BeforeWaiting = Callable[[Machine, Callable[[], object]], None]


def test_paused_until_resumed(start: Start) -> None:
    machine = start(then="halt")
    # RunState, qapi/run-state.json.
    assert machine.qmp.execute("query-status")["status"] == "prelaunch"
    machine.resume()
    assert machine.qmp.execute("query-status")["status"] == "running"


def test_refused_command_names_itself_and_leaves_the_guest_usable(start: Start) -> None:
    machine = start()
    with pytest.raises(GuestError, match=r"'no-such-command'.*has not been found"):
        machine.qmp.execute("no-such-command")
    with pytest.raises(GuestError, match=r"'qom-get'.*'/nowhere' not found"):
        machine.qmp.execute("qom-get", {"path": "/nowhere", "property": "type"})
    assert machine.alive


def test_events_come_before_the_answer_that_follows_them(start: Start) -> None:
    machine = start(then="halt")
    heard: list[Event] = []
    machine.qmp.listeners.append(heard.append)
    machine.resume()
    machine.qmp.execute("stop")
    machine.qmp.execute("query-status")
    assert [event["event"] for event in machine.qmp.events] == ["RESUME", "STOP"]
    assert tuple(heard) == machine.qmp.events


def test_transcript(start: Start) -> None:
    machine = start()
    machine.qmp.execute("query-version")
    lines = (machine.logs / "qmp.log").read_text().splitlines()
    messages = [(line.split()[1], json.loads(line.split(maxsplit=2)[2])) for line in lines]
    assert messages[0][0] == "<-"
    assert "QMP" in messages[0][1]
    (asked,) = (message for way, message in messages if way == "->" and message["execute"] == "query-version")
    assert [message["id"] for way, message in messages if way == "<-" and "id" in message] == [asked["id"]]


def test_sigkill_while_an_answer_is_due(start: Start, before_waiting: BeforeWaiting) -> None:
    machine = start()
    os.kill(machine.process.pid, signal.SIGSTOP)
    before_waiting(machine, lambda: os.kill(machine.process.pid, signal.SIGKILL))
    # The default deadline is a minute: with no eye on QEMU this would be GuestHung.
    with pytest.raises(GuestExited, match=r"was killed by SIGKILL.*'query-status'"):
        machine.qmp.execute("query-status")
    with pytest.raises(GuestExited, match=r"was killed by SIGKILL.*'query-version'"):
        machine.qmp.execute("query-version")


def test_late_answer_does_not_upset_the_next_call(start: Start) -> None:
    machine = start()
    os.kill(machine.process.pid, signal.SIGSTOP)
    with pytest.raises(GuestHung, match=r"for 0\.01 s \(waiting for QEMU's answer to 'query-status'\)"):
        machine.qmp.execute("query-status", timeout=0.01)
    os.kill(machine.process.pid, signal.SIGCONT)
    assert machine.qmp.execute("query-version")["qemu"]["major"] >= 7


def test_last_answer_of_a_qemu_that_ends(start: Start) -> None:
    machine = start()
    assert machine.qmp.execute("quit") == {}
    with pytest.raises(GuestExited, match="QEMU was told to quit"):
        machine.qmp.execute("query-status")


def test_close_twice(start: Start) -> None:
    machine = start()
    machine.qmp.close()
    machine.qmp.close()
