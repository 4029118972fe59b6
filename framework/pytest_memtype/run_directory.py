"""Where a run leaves what is worth keeping: its record file, and the logs of failed tests."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path

KEPT_RUNS = 10


def new_run(base: Path, name: str) -> Path:
    """Make the folder of a run below ``base``, and remove all but the newest runs.

    :param name: Sorts by time, such as ``20261123-040712-4711``.
    """
    runs = base / "runs"
    directory = runs / name
    # Each worker of a run comes here with the same name.
    directory.mkdir(parents=True, exist_ok=True)
    ignore = base / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
    for old in sorted(path for path in runs.iterdir() if path.is_dir() and not path.is_symlink())[
        :-KEPT_RUNS
    ]:
        shutil.rmtree(old, ignore_errors=True)
    link = base / f"latest.{os.getpid()}"
    link.symlink_to(directory.relative_to(base))
    link.replace(base / "latest")
    return directory


def test_folder(run: Path, test: str) -> Path:
    """The folder of one test's logs, named after its node id."""
    readable = re.sub(r"[^A-Za-z0-9_.=-]+", "-", test).strip("-")[-150:]
    # Two tests may differ only in characters that a file name shouldn't have.
    return run / f"{readable}-{hashlib.sha256(test.encode()).hexdigest()[:8]}"
