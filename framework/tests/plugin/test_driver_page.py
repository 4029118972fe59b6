"""docs/test-your-driver.md, followed in an empty folder: files, run, repair."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from memtype_support.driver_page import lines_of_mistake, shown, write_files
from memtype_support.effort import effort

BIN = Path(sys.executable).parent
FAILED = 1


def _command(name: str) -> list[str]:
    """The command of the page; with quick effort on one kernel."""
    words = shlex.split(shown(f"executed: {name}").splitlines()[-1])
    if effort(quick=0, long=1):
        return words
    return [*words[: words.index("--kernel")], "--kernel", "debian:bookworm"]


def _run(name: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "memtype"), *_command(name)[1:], "-n", "0"]
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=1200
    )


@pytest.mark.timeout(2400)
def test_the_page(tmp_path: Path) -> None:
    write_files(tmp_path, "toy/Kbuild", "toy/toy.c", "test_toy.py")
    kernels = _command("run").count("--kernel")

    first = _run("run", tmp_path)
    assert first.returncode == FAILED, first.stdout + first.stderr
    found = re.findall(r"(toy/toy\.c:\d+): \S+ for toy_mmap \[toy\], X:\d+: UC- -> WC", first.stdout)
    assert len(found) >= kernels
    assert set(found) <= set(lines_of_mistake())
    assert f"{kernels} failed, {kernels} passed" in first.stdout
    assert "booted and not cloned: QEMU doesn't save the state of edu" in first.stdout + first.stderr

    repair = shown("executed: repair").splitlines()[0]
    subprocess.run(["sh", "-c", repair], cwd=tmp_path, check=True)
    second = _run("repair", tmp_path)
    assert second.returncode == 0, second.stdout + second.stderr
    assert f"{2 * kernels} passed" in second.stdout
