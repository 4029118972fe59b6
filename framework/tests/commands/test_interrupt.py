"""Ctrl-C, once and twice: the status that shells have for it, no traceback, nothing that goes on."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from memtype_support.stub_mmdebstrap import StubMmdebstrap

COMMAND = [sys.executable, "-c", "from pytest_memtype.cli import main; main()"]

INTERRUPTED = 130
"""128 + SIGINT (POSIX shells; bash(1), "EXIT STATUS")."""


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """What is waited for tells of itself here, a line each."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


def interrupted(fifo: Path, *arguments: str, times: int, cwd: Path) -> tuple[subprocess.Popen[str], str]:
    """Start a command, and press Ctrl-C each time that something tells of itself."""
    told = os.open(fifo, os.O_RDWR)
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        with os.fdopen(told, "rb", buffering=0) as lines:
            for _ in range(times):
                while not select.select([lines], [], [], 1)[0]:
                    assert process.poll() is None, process.communicate()[0]
                assert lines.read(5) == b"here\n"
                # As a terminal does it: to the whole group.
                os.killpg(process.pid, signal.SIGINT)
            output, _ = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    return process, output


def check(process: subprocess.Popen[str], output: str) -> None:
    assert process.returncode == INTERRUPTED, output
    assert "Traceback" not in output
    assert "Error" not in output
    assert output.splitlines()[-1] == "memtype: interrupted"


# The second time nobody waits for mmdebstrap, which clears up.
WAITS = 'echo here > "{fifo}"; exec sleep 3600'
STUBBORN = 'trap \'echo here > "{fifo}"\' TERM; echo here > "{fifo}"; while :; do sleep 3600 & wait; done'


@pytest.mark.parametrize(("script", "times"), [(WAITS, 1), (STUBBORN, 2)], ids=["once", "twice"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["kernels", "fetch", "debian:6.1.0-56-cloud-amd64"],
        ["kernels", "list", "--available"],
        ["run"],
        ["shell"],
        ["run", "--observe"],
    ],
    ids=" ".join,
)
def test_while_a_mirror_is_waited_for(
    tmp_path: Path,
    fifo: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    script: str,
    times: int,
) -> None:
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path / "cache"))
    StubMmdebstrap(tmp_path / "bin", monkeypatch, script.format(fifo=fifo))
    process, output = interrupted(fifo, *arguments, times=times, cwd=tmp_path)
    check(process, output)
    assert "its last lines follow" not in output
    assert "failed" not in output


TEST = """
import os, threading, pytest

def tell():
    with open({fifo!r}, "w") as file:
        file.write("here\\n")

@pytest.fixture(scope="session")
def stubborn():
    yield
    if {times} > 1:
        tell()
        threading.Event().wait()

def test_it(stubborn):
    tell()
    threading.Event().wait()
"""


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize(
    "command",
    [["run"], ["compare", "--kernel", "debian:bookworm", "--kernel", "debian:bullseye"]],
    ids=" ".join,
)
def test_while_a_test_runs(tmp_path: Path, fifo: Path, command: list[str], times: int) -> None:
    (tmp_path / "test_it.py").write_text(TEST.format(fifo=str(fifo), times=times))
    arguments = [*command, "-n", "0", "-p", "no:cacheprovider", "test_it.py"]
    check(*interrupted(fifo, *arguments, times=times, cwd=tmp_path))


def test_while_tests_run_in_workers(tmp_path: Path, fifo: Path) -> None:
    (tmp_path / "test_it.py").write_text(TEST.format(fifo=str(fifo), times=1))
    arguments = ["run", "-n", "1", "-p", "no:cacheprovider", "test_it.py"]
    check(*interrupted(fifo, *arguments, times=1, cwd=tmp_path))
