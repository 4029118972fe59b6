"""Outputs that can't show every character: a terminal of another encoding, a log of cron's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-c", "from pytest_memtype.cli import main; main()"]


@pytest.mark.parametrize(
    "environment",
    [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}, {"PYTHONIOENCODING": "latin-1"}],
    ids=["ascii", "C", "latin-1"],
)
@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["bugs"], "* has it, o has not, by what is known"),
        (["layouts", "show", "wb-device"], "##"),
        (["layouts"], "wb-device"),
        (["--help"], "Usage"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_everything_is_printed_as_far_as_it_can_be(
    tmp_path: Path, environment: dict[str, str], arguments: list[str], shown: str
) -> None:
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=tmp_path,
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    assert shown.encode() in done.stdout
    assert done.stdout.isascii()


def test_utf_8_stays_as_it_is(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "layouts", "show", "wb-device"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        check=True,
    )
    assert "██" in done.stdout.decode()


def test_names_of_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "layouts").mkdir()
    text = 'description = "für später"\ndefault = "WB"\n'
    (tmp_path / "layouts" / "mine.toml").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [*COMMAND, "layouts"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert b"f?r sp?ter" in done.stdout
