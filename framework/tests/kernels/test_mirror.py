"""What a process knows of the mirror, and how others learn it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pytest_memtype.errors import Unreachable
from pytest_memtype.kernels import mirror


@pytest.fixture(autouse=True)
def _new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(mirror.VARIABLE, raising=False)
    mirror.forget()


def test_it_may_be_asked_until_somebody_says_otherwise(tmp_path: Path) -> None:
    assert mirror.unasked() is None
    mirror.require("a kernel")
    mirror.lost(tmp_path)
    assert mirror.unasked() == "the Debian mirror can't be reached"
    mirror.stay_offline()
    assert mirror.unasked() == "the Debian mirror may not be asked (--offline)"
    with pytest.raises(Unreachable, match=r"^a kernel: not in the cache, and .*--offline.*export, import"):
        mirror.require("a kernel")


@pytest.mark.parametrize(("value", "forbidden"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_the_variable_forbids_it(monkeypatch: pytest.MonkeyPatch, value: str, forbidden: bool) -> None:
    monkeypatch.setenv(mirror.VARIABLE, value)
    assert (mirror.unasked() is not None) == forbidden


def test_a_note_lasts_a_minute_or_until_the_mirror_answers(tmp_path: Path) -> None:
    assert not mirror.lately_lost(tmp_path)
    mirror.lost(tmp_path)
    assert mirror.lately_lost(tmp_path)
    (note,) = tmp_path.iterdir()
    for moment in (time.time() - 61, time.time() + 3600):
        os.utime(note, (moment, moment))
        assert not mirror.lately_lost(tmp_path)
    mirror.lost(tmp_path)
    mirror.answered(tmp_path)
    assert not mirror.lately_lost(tmp_path)


def test_processes_that_are_started_know_the_same(tmp_path: Path) -> None:
    assert mirror.environment() == {}
    mirror.lost(tmp_path)
    assert mirror.say_once()
    code = "from pytest_memtype.kernels import mirror; print(mirror.unasked())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **mirror.environment(), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == mirror.unasked()
    state = mirror.state()
    mirror.forget()
    mirror.restore(state)
    assert mirror.unasked() == "the Debian mirror can't be reached"
    assert not mirror.say_once()
