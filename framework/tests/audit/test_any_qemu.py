"""Whoever isn't a QEMU that can be audited is refused in one line. Real audits are in test_command.py."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import cast

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

    def execute(command: str) -> dict[str, bool]:
        sent.append(command)
        if command == "stop":
            raise KeyboardInterrupt
        return {"running": True}

    control = cast(Qmp, SimpleNamespace(execute=execute))
    with pytest.raises(KeyboardInterrupt), _stopped(control):
        pass
    assert sent == ["query-status", "stop", "cont"]
