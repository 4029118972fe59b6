"""What the agent's supervisor undoes, when a signal comes at the worst moment."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from memtype_support.verifier_library import make

LIMIT_SECONDS = 60


def test_a_signal_between_the_fork_and_all_else_undoes_what_was_done(tmp_path: Path) -> None:
    """guests/verifier_host/supervise.c sends itself SIGHUP as fork() returns; worker and folder must go."""
    make("supervise", tmp_path)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "memtype.ko").touch()
    reading, writing = os.pipe()
    supervisor = subprocess.Popen([tmp_path / "supervise", folder], pass_fds=[writing])
    os.close(writing)
    assert supervisor.wait(LIMIT_SECONDS) == 0
    assert not folder.exists()
    # Whoever is left of it has the other end open.
    assert os.read(reading, 1) == b""
    os.close(reading)
