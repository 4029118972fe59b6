"""The journal of a run on a cluster: each test that was told, as it came, for ``--resume``."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pytest_memtype.cluster.answer import plain_json, reports_of
from pytest_memtype.errors import AnswerRefused, UsageError
from pytest_memtype.host.files import read_file
from pytest_memtype.report.record import append

NAME: Final = "cluster.jsonl"
_LARGEST: Final = 1 << 30
"""Bytes of a journal: 50,000 tests take a quarter of that."""


def note(run: Path, nodeid: str, reports: list[dict[str, Any]]) -> None:
    """Add a test to the journal of a run.

    :param run: The run's folder.
    :param nodeid: The test.
    :param reports: Its reports, as pytest serialises them.
    :raises HostError: it can't be written.
    """
    append(run / NAME, [{"test": nodeid, "reports": reports}])


def noted(run: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The tests of a journal, with their reports. A last line that was cut off is left out.

    :param run: The run's folder.
    :raises UsageError: there is no journal, or it holds something else.
    """
    file = run / NAME
    if not file.exists():
        raise UsageError(
            f"--resume {run}: there is no {NAME}; name the folder of a run that had a --scheduler"
        )
    try:
        lines = read_file(file, most=_LARGEST).decode("ascii").split("\n")
    except ValueError:
        raise UsageError(f"{file}: not a journal") from None
    for number, line in enumerate(lines[:-1], start=1):
        try:
            entry = plain_json(line)
            nodeid = str(entry["test"])
            yield nodeid, reports_of(entry["reports"], nodeid)
        except (AnswerRefused, KeyError, TypeError) as error:
            raise UsageError(f"{file}:{number}: {error}; name a run of memtype's own") from None


def take_over_logs(run: Path, folder: Path) -> None:
    """Take over the logs of failed tests from an earlier run.

    :param run: The run that goes on.
    :param folder: The earlier run.
    """
    for path in folder.iterdir():
        if path.is_dir() and not path.name.startswith("."):
            shutil.copytree(path, run / path.name, dirs_exist_ok=True)
