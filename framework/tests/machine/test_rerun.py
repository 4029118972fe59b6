"""The script that boots a guest again. That it does is tested with machines."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from pytest_memtype.machine.qemu_command import QemuConfig
from pytest_memtype.machine.rerun import write_rerun


def test_the_names_of_files_are_any_bytes(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"j\xf6rg's logs")
    folder.mkdir()
    kernel = folder / "bzImage"
    script = write_rerun(QemuConfig(kernel=kernel), folder)
    assert script == str(folder / "rerun.sh")
    (programs := tmp_path / "programs").mkdir()
    (programs / "qemu-system-x86_64").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (programs / "qemu-system-x86_64").chmod(0o755)
    path = {"PATH": f"{programs}:{os.environ['PATH']}"}
    done = subprocess.run([script], env={**os.environ, **path}, capture_output=True, check=True)
    assert os.fsencode(kernel) in done.stdout.split(b"\n")
