"""Whoever isn't a QEMU of ours is refused in one line. Real ones are in test_command.py."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from pytest_memtype.audit.any_qemu import Control, audit_qemu, connected, learned_shape
from pytest_memtype.machine.program import installed
from pytest_memtype.errors import HostError, UsageError
from pytest_memtype.machine.qemu_versions import QEMU


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no QEMU answers at .*: No such file"):
        audit_qemu(tmp_path / "qmp")
    with pytest.raises(UsageError, match="no QEMU answers at"):
        connected(tmp_path / "qmp")


def test_somebody_else_listens() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"220 ready\r\n")
        with pytest.raises(UsageError, match="no QEMU answers"):
            Control(ours, Path("qmp"))


def test_a_program_that_is_no_qemu() -> None:
    with pytest.raises(HostError, match=r"how /bin/true saves CPUs can't be learned"):
        learned_shape(installed("/bin/true"))
    with pytest.raises(HostError, match="is not on this host"):
        installed("/nowhere/qemu")


def test_how_the_installed_qemu_saves_a_cpu() -> None:
    shape = learned_shape(installed(QEMU))
    # Intel SDM: eleven fixed-range registers; QEMU 7.2 has eight pairs, which are sixteen words.
    assert {name: count for name, (_, count) in shape.offsets.items() if count > 1} == {
        "mtrr_fixed": 11,
        "mtrr_variable": 16,
    }
