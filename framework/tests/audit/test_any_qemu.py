"""Whoever isn't a QEMU that can be audited is refused in one line. Real audits are in test_command.py."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pytest_memtype.audit.any_qemu import _stopped, audit_qemu
from pytest_memtype.errors import UsageError
from pytest_memtype.machine.qemu_versions import QEMU
from pytest_memtype.machine.qmp import Qmp


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no QEMU answers at .*: No such file"):
        audit_qemu(tmp_path / "qmp")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--preconfig",), r"QEMU refused .*'query-cpus-fast'.*: .*machine initialization"),
        (("-machine", "none"), "runs no x86-64 guest"),
    ],
    ids=["before its machine is made", "without a CPU"],
)
def test_a_qemu_that_has_no_guest(tmp_path: Path, options: tuple[str, ...], why: str) -> None:
    """A QEMU of somebody else that refuses is a wrong argument, and no guest of ours that went wrong."""
    path = tmp_path / "qmp"
    # It greets on standard output once it listens.
    common = ("-nodefaults", "-display", "none", "-qmp", f"unix:{path},server=on,wait=off", "-qmp", "stdio")
    with subprocess.Popen([QEMU, *common, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as qemu:
        try:
            assert qemu.stdout is not None
            assert qemu.stdout.readline()
            with pytest.raises(UsageError, match=why) as raised:
                audit_qemu(path)
        finally:
            qemu.kill()
    assert "\n" not in str(raised.value)


def test_ctrl_c_while_it_is_being_stopped_lets_it_run_on() -> None:
    """The command is sent, and QEMU carries it out, whether or not anybody hears its answer."""
    sent: list[str] = []

    def execute(command: str) -> None:
        sent.append(command)
        if command == "stop":
            raise KeyboardInterrupt

    def ask(kind: type[Any], command: str) -> Any:
        sent.append(command)
        return kind(running=True)

    control = cast(Qmp, SimpleNamespace(execute=execute, ask=ask))
    with pytest.raises(KeyboardInterrupt), _stopped(control):
        pass
    assert sent == ["query-status", "stop", "cont"]


#: Answers of QEMU 7.2 (qapi/machine.json, qom.json, run-state.json), but for those about properties.
HONEST: dict[str, object] = {
    "query-cpus-fast": [{"cpu-index": 0, "qom-path": "/machine/unattached/device[0]"}],
    "qom-list": [{"name": name, "type": "?"} for name in ("vendor", "phys-bits", "mtrr", "lm")],
    "query-memdev": [{"id": "ram"}],
    "human-monitor-command": "",
    "query-status": {"running": True},
}
PROPERTIES: dict[str, object] = {"vendor": "AuthenticAMD", "phys-bits": 40, "mtrr": True}


@pytest.fixture
def living_qemu() -> Iterator[int]:
    """The process id of a QEMU, for a peer to pass for it."""
    common = ("-nodefaults", "-display", "none", "-machine", "none", "-qmp", "stdio")
    with subprocess.Popen([QEMU, *common], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as qemu:
        assert qemu.stdout is not None
        assert qemu.stdout.readline()
        try:
            yield qemu.pid
        finally:
            qemu.kill()


def liar(path: Path, answers: dict[str, object]) -> threading.Thread:
    """Listen as a QEMU does, and give each command an answer of ours."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()

    def serve() -> None:
        with listening, listening.accept()[0] as peer:
            peer.settimeout(30)
            peer.sendall(b'{"QMP": {"version": {}, "capabilities": []}}\n')
            # A client sends a command in one piece, without a line's end, and waits for the answer.
            while command := peer.recv(1 << 16):
                asked = json.loads(command)
                of_property = asked.get("arguments", {}).get("property", asked["execute"])
                answer = {"return": answers.get(of_property, {}), "id": asked.get("id")}
                peer.sendall(json.dumps(answer).encode() + b"\n")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("query-cpus-fast", {"0": 1}),
        ("query-cpus-fast", [7]),
        ("query-cpus-fast", [{"qom-path": 1}]),
        ("qom-list", [None]),
        ("qom-list", [{"name": ["vendor"]}]),
        ("vendor", ["AuthenticAMD"]),
        ("phys-bits", "40"),
        ("phys-bits", -1),
        ("phys-bits", 10**30),
        ("mtrr", "no"),
        ("query-memdev", 0),
        ("query-memdev", [{"id": {}}]),
        ("human-monitor-command", {"a": 1}),
    ],
)
def test_a_peer_that_answers_as_no_qemu_does(
    tmp_path: Path, living_qemu: int, command: str, answer: object
) -> None:
    thread = liar(tmp_path / "qmp", {**HONEST, **PROPERTIES, command: answer})
    with pytest.raises(UsageError, match="isn't one of QEMU's: ") as raised:
        audit_qemu(tmp_path / "qmp", pid=living_qemu)
    assert "\n" not in str(raised.value)
    thread.join(10)
    assert not thread.is_alive()
