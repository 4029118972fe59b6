"""Programs that are run for what they print."""

from __future__ import annotations

import os
import select
import subprocess
from pathlib import Path

import pytest

from pytest_memtype.host.program import run_to_end


def test_both_outputs_are_one_text_in_their_order() -> None:
    done = run_to_end(["sh", "-c", r"echo one; echo two >&2; printf '\377\n'; exit 3"])
    assert (done.returncode, done.stdout) == (3, "one\ntwo\n\ufffd\n")


def test_there_is_nothing_to_read() -> None:
    done = run_to_end(["cat"], timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_it_ends_with_its_time_and_so_does_what_it_started(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    os.mkfifo(told)
    # Both ends at once, so that neither waits for the other.
    reading = os.open(told, os.O_RDWR)
    with pytest.raises(subprocess.TimeoutExpired):
        run_to_end(["sh", "-c", f"sleep 60 & echo $! > {told}; wait"], timeout=0.5)
    child = os.pidfd_open(int(os.read(reading, 20)))
    assert select.select([child], [], [], 30)[0]
    os.close(child)
    os.close(reading)
