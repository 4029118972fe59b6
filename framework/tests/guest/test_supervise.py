"""What the agent's supervisor undoes, when a signal comes at the worst moment, and what it doesn't touch."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from memtype_support.verifier_library import make

from pytest_memtype.kernels.bundle import bundle

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


@pytest.mark.parametrize(
    "wrong",
    [
        {"--folder": "folder"},
        {"--module": "folder/memtype.ko"},
        {"--port": "folder/memtype.ko"},
        {"--folder": ""},
    ],
    ids=str,
)
def test_a_path_from_another_folder_is_none(
    memtype_kernel: str, tmp_path: Path, wrong: dict[str, str]
) -> None:
    """The agent's own folder is /: what begins elsewhere would be another file, and deleted."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "memtype.ko").touch()
    options = {"--port": "-", "--module": "/nosuch/memtype.ko", **wrong}
    command = [str(bundle(memtype_kernel).agent), *(word for pair in options.items() for word in pair)]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("memtype agent: paths begin with /\n")
    assert (tmp_path / "folder" / "memtype.ko").exists()
