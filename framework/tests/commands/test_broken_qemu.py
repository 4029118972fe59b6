"""A QEMU that can't be used is the host's fault: one line and status 3, whichever command starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from memtype_support import broken_qemu

MEMTYPE = ("-c", "from pytest_memtype.cli import main; main()")
KERNEL = ("--kernel", "debian:bookworm")
COMMANDS = {
    "pytest": ("-m", "pytest", "-p", "no:cacheprovider", "-n", "0", *KERNEL, "test_one.py"),
    "run": (*MEMTYPE, "run", *KERNEL, "test_one.py"),
    "shell": (*MEMTYPE, "shell", *KERNEL),
    "shell --after": (*MEMTYPE, "shell", *KERNEL, "--after", "test_one.py"),
    "compare": (*MEMTYPE, "compare", *KERNEL, "--kernel", "debian:6.12", "test_one.py"),
    "bisect": (*MEMTYPE, "bisect", "test_one.py::test_it", "--good", "debian:6.1", "--bad", "debian:6.12"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("silent", "--version ended with status 0 and printed: nothing"),
        ("killed", "--version was killed by SIGKILL and printed: nothing"),
        ("dies at once", "was killed by SIGSEGV"),
    ],
)
def test_a_qemu_that_can_not_be_used(tmp_path: Path, wrong: str, message: str, command: str) -> None:
    program = broken_qemu.make(tmp_path / "bin", wrong)
    (tmp_path / "test_one.py").write_text("def test_it(guest): pass\n")
    done = subprocess.run(
        [sys.executable, *COMMANDS[command]],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 3, output
    assert len([line for line in output.splitlines() if message in line]) == 1, output
    assert "Traceback" not in output
    assert "INTERNALERROR" not in output
    # Nothing of it is remembered as an answer of a kernel.
    assert not list(tmp_path.glob(".memtype/bisect-*"))
