"""Programs that are run for what they print."""

from __future__ import annotations

import subprocess

import pytest

from pytest_memtype.host.program import run_to_end


def test_both_outputs_are_one_text_in_their_order() -> None:
    done = run_to_end(["sh", "-c", r"echo one; echo two >&2; printf '\377\n'; exit 3"])
    assert (done.returncode, done.stdout) == (3, "one\ntwo\n\ufffd\n")


def test_there_is_nothing_to_read() -> None:
    done = run_to_end(["cat"], timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_it_ends_with_its_time() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        run_to_end(["sleep", "60"], timeout=0.1)
