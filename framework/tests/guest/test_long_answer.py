"""What the agent makes of a process whose answer is longer than it has room for."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from memtype_support.verifier_library import make

LIMIT_SECONDS = 60

ROOM = 128 << 10
"""LARGEST_ANSWER of guests/agent/process.c."""


@pytest.mark.parametrize("surplus", [1, 4096])
def test_an_answer_that_is_cut_is_an_error(tmp_path: Path, surplus: int) -> None:
    make("process", tmp_path)

    def relayed(length: int) -> str:
        command = [str(tmp_path / "process"), str(length)]
        return subprocess.check_output(command, text=True, timeout=LIMIT_SECONDS)

    assert relayed(ROOM) == "." * ROOM
    assert json.loads(relayed(ROOM + surplus)) == {
        "error": f"munmap: the answer of process X has {ROOM + surplus} bytes, more than {ROOM}"
    }
