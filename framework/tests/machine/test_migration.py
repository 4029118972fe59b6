"""A state that is saved while QEMU stalls, or to a file that can't be made. Templates test the rest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from pytest_memtype.errors import GuestError, GuestHung
from pytest_memtype.machine import migration
from pytest_memtype.machine.migration import save_state
from pytest_memtype.machine.qmp import Qmp


class StallingQmp:
    """The connection to a QEMU that begins to send its state, and goes no further.

    No real one can be held there: stopped as a whole, it would not even answer the command before.
    """

    def __init__(self) -> None:
        self.events = ()
        self.executed: list[str] = []
        self.ours = -1

    def give(self, name: str, descriptor: int) -> None:
        assert name == "state"
        self.ours = os.dup(descriptor)

    def execute(self, command: str, arguments: Any = None) -> None:
        self.executed.append(command)
        if command == "migrate":
            assert arguments == {"uri": "fd:state"}
            os.write(self.ours, b"QEVM")

    def hung(self, doing: str, timeout: float) -> GuestError:
        return GuestHung(f"the guest gave no answer for {timeout:g} s ({doing})", details=("logs",))


@pytest.fixture
def stalling() -> Iterator[StallingQmp]:
    qmp = StallingQmp()
    yield qmp
    os.close(qmp.ours)


def save(qmp: StallingQmp, file: Path) -> None:
    # It has all of a connection that is used of one here.
    save_state(cast(Qmp, qmp), file)


def test_a_state_that_stalls_is_explained_as_every_wait(
    stalling: StallingQmp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration, "COMMAND", 0.01)
    with pytest.raises(GuestHung, match=r"no answer for 0.01 s \(saving the guest's state\)") as caught:
        save(stalling, tmp_path / "state")
    assert caught.value.details == ("logs",)
    # QEMU is left as it can go on.
    assert stalling.executed == ["migrate", "migrate_cancel"]


def test_a_file_that_can_not_be_made_is_no_stall(stalling: StallingQmp, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        save(stalling, tmp_path / "gone" / "state")
    assert stalling.executed == ["migrate", "migrate_cancel"]
