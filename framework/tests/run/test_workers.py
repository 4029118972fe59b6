"""The workers of memtype run: pytest-xdist's, one for each core, unless it is switched off."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Nothing of these tests wants a guest.
PROGRAM = """
from pytest_memtype.run import suite
suite._made_ready = lambda *_, **__: object()
from pytest_memtype.cli import main
main()
"""


def run(folder: Path, *arguments: str, workers: bool) -> subprocess.CompletedProcess[str]:
    (folder / "test_mine.py").write_text(
        f"import os\ndef test_mine(): assert ('PYTEST_XDIST_WORKER' in os.environ) is {workers}\n"
    )
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, "run", "--accel", "tcg", *arguments],
        cwd=folder,
        # These tests may run in a worker themselves.
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@pytest.mark.parametrize(("arguments", "workers"), [((), True), (("-n", "0"), False), (("-n", "1"), True)])
def test_workers(tmp_path: Path, arguments: tuple[str, ...], workers: bool) -> None:
    done = run(tmp_path, *arguments, workers=workers)
    assert done.returncode == 0, done.stdout + done.stderr


def test_none_where_xdist_is_switched_off(tmp_path: Path) -> None:
    done = run(tmp_path, "-p", "no:xdist", workers=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_none_where_a_projects_settings_switch_xdist_off(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -p no:xdist\n")
    done = run(tmp_path, workers=False)
    assert done.returncode == 0, done.stdout + done.stderr
