import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_memtype.errors import GuestError, GuestExited, GuestHung, UsageError
from pytest_memtype.machine.machine import Machine
from pytest_memtype.machine.qemu_command import QemuConfig
from pytest_memtype.machine.qemu_versions import QEMU
from pytest_memtype.machine.qmp import Event, Qmp, connected, qmp_of_another

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


def test_an_answer_of_another_kind_than_was_asked_for(start: Start) -> None:
    machine = start()
    assert machine.qmp.ask(list[object], "query-cpus-fast")
    with pytest.raises(GuestError, match=r"answer to 'query-status' isn't one of QEMU's: Expected `str`"):
        machine.qmp.ask(str, "query-status")


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


def test_a_full_disk_costs_the_transcript_alone(tmp_path: Path) -> None:
    (tmp_path / "qmp.log").symlink_to("/dev/full")
    with Machine.start(QemuConfig(), logs=tmp_path) as machine:
        assert machine.qmp.execute("query-status")["status"] == "prelaunch"


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


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no QEMU answers at .*: No such file"):
        connected(tmp_path / "qmp")


@pytest.mark.parametrize("greeting", [b"220 ready\r\n", b"[" * 100_000 + b"\n"], ids=["mail", "nested"])
def test_somebody_else_listens(greeting: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(greeting)
        with pytest.raises(UsageError, match=r"no QEMU answers at qmp: .*; start it with -qmp") as raised:
            qmp_of_another(ours, "qmp")
    assert "\n" not in str(raised.value)


def test_nobody_answers() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(UsageError, match=r"no QEMU answers at qmp: no answer for 0\.01 s"):
        qmp_of_another(ours, "qmp", timeout=0.01)


@pytest.fixture
def another() -> Iterator[tuple[Qmp, subprocess.Popen[bytes]]]:
    """A QEMU that no machine of ours watches."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        control = ("-chardev", f"socket,id=control,fd={theirs.fileno()}", "-qmp", "chardev:control")
        command = [QEMU, "-machine", "none", "-nodefaults", "-display", "none", *control]
        with subprocess.Popen(command, pass_fds=[theirs.fileno()]) as process:
            theirs.close()
            try:
                with contextlib.closing(qmp_of_another(ours, "there")) as qmp:
                    yield qmp, process
            finally:
                process.kill()


def test_another_qemu_answers_and_refuses(another: tuple[Qmp, subprocess.Popen[bytes]]) -> None:
    qmp, _ = another
    assert "prelaunch" in qmp.monitor("info status") or "running" in qmp.monitor("info status")
    with pytest.raises(GuestError, match=r"QEMU refused .*'no-such-command'.*has not been found"):
        qmp.execute("no-such-command")


def test_another_qemu_gets_a_descriptor(another: tuple[Qmp, subprocess.Popen[bytes]], tmp_path: Path) -> None:
    qmp, _ = another
    with (tmp_path / "file").open("wb") as file:
        assert qmp.execute("add-fd", {"fdset-id": 7}, descriptor=file.fileno())["fdset-id"] == 7
    assert [each["fdset-id"] for each in qmp.execute("query-fdsets")] == [7]


def test_another_qemu_ends(another: tuple[Qmp, subprocess.Popen[bytes]]) -> None:
    qmp, process = another
    process.kill()
    process.wait()
    with pytest.raises(GuestExited, match=r"its connection ended \(.*'query-status'\)"):
        qmp.execute("query-status")
    with pytest.raises(GuestExited, match="its connection ended"):
        qmp.execute("getfd", {"fdname": "x"}, descriptor=0)


def test_another_qemu_hangs(another: tuple[Qmp, subprocess.Popen[bytes]]) -> None:
    qmp, process = another
    os.kill(process.pid, signal.SIGSTOP)
    with pytest.raises(GuestHung, match=r"no answer for 0\.01 s \(.*'query-status'\)"):
        qmp.execute("query-status", timeout=0.01)
    os.kill(process.pid, signal.SIGCONT)
    assert qmp.execute("query-version")["qemu"]["major"] >= 7
