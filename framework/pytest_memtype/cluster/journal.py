"""The journal of a run on a cluster: each test that was told, as it came, for ``--resume``.

Beside it, for ``memtype evidence``, stands which worker keeps the logs of which test that passed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from pytest_memtype.cluster.answer import plain_json, reports_of
from pytest_memtype.errors import AnswerRefused, UsageError
from pytest_memtype.host.files import read_file
from pytest_memtype.host.nearest import did_you_mean
from pytest_memtype.report.record import append
from pytest_memtype.run import kept_logs
from pytest_memtype.run.folder import is_name_of_a_run

NAME: Final = "cluster.jsonl"
KEPT: Final = "kept-logs.jsonl"
_LARGEST: Final = 1 << 30
"""Bytes of a journal: 50,000 tests take a quarter of that."""


@dataclass(frozen=True)
class Kept:
    """A note of where the logs of a test are that passed.

    :param test: The test's node id.
    :param run: The name of the run, under which the worker has them.
    :param name: The name that they have there, a SHA-256.
    :param worker: The worker's address.
    :param scheduler: The address of the scheduler, the path of its file, or ``local``.
    """

    test: str
    run: str
    name: str
    worker: str
    scheduler: str


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
    for number, line in _lines(file):
        try:
            entry = plain_json(line)
            nodeid = str(entry["test"])
            yield nodeid, reports_of(entry["reports"], nodeid)
        except (AnswerRefused, KeyError, TypeError) as error:
            raise UsageError(f"{file}:{number}: {error}; name a run of memtype's own") from None


def note_kept(run: Path, kept: Kept) -> None:
    """Add to a run where a test's logs are.

    :param run: The run's folder.
    :param kept: Where they are.
    :raises HostError: it can't be written.
    """
    append(run / KEPT, [asdict(kept)])


def kept_of(run: Path, test: str) -> Kept:
    """Where the logs of a test are that passed.

    :param run: The run's folder.
    :param test: The test's node id.
    :raises UsageError: no worker keeps any; it says why.
    """
    if not (run / NAME).exists():
        raise UsageError(
            f"{run.name}: it ran on no cluster, where logs of tests that pass go at once; run the test again "
            "with --keep-logs"
        )
    found = None
    for number, line in _lines(run / KEPT) if (run / KEPT).exists() else ():
        try:
            entry = plain_json(line)
            if entry["test"] == test:
                found = Kept(**{name: str(entry[name]) for name in Kept.__dataclass_fields__})
                if not kept_logs.NAME.fullmatch(found.name) or not is_name_of_a_run(found.run):
                    raise AnswerRefused("no run's logs have such a name")
        except (AnswerRefused, KeyError, TypeError) as error:
            raise UsageError(f"{run / KEPT}:{number}: {error}; name a run of memtype's own") from None
    if found is None:
        tests = [nodeid for nodeid, _ in noted(run)]
        if test not in tests:
            raise UsageError(f"{test}: no such test has ended in {run.name}{did_you_mean(test, tests)}")
        raise UsageError(
            f"{test}: it has left no logs on a worker; it had no guest, or no room was left there"
        )
    return found


def take_over_logs(run: Path, folder: Path) -> None:
    """Take over from an earlier run the logs of failed tests, and where those of others are.

    :param run: The run that goes on.
    :param folder: The earlier run.
    """
    if (folder / KEPT).is_file():
        (run / KEPT).write_text("".join(f"{line}\n" for _, line in _lines(folder / KEPT)))
    for path in folder.iterdir():
        if path.is_dir() and not path.name.startswith("."):
            shutil.copytree(path, run / path.name, dirs_exist_ok=True)


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """The whole lines of a file with their numbers; a last line that was cut off is left out."""
    try:
        lines = read_file(file, most=_LARGEST).decode("ascii").split("\n")
    except ValueError:
        raise UsageError(f"{file}: not a journal") from None
    yield from enumerate(lines[:-1], start=1)
