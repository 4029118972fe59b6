"""Run the suite on a kernel with one of its faults switched on, in a process of its own.

``python -m pytest_memtype.mutate.trial KERNEL FAULT SUITE FOLDER [--all] FILE...`` runs the files named
first, then the rest of SUITE, and writes which tests failed to ``answer.json`` in FOLDER.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from pytest_memtype.errors import INTERRUPTED, MemtypeError, harmless
from pytest_memtype.report.record import case_of
from pytest_memtype.run.blame import Blame, blame_of
from pytest_memtype.run.suite import run_suite

ALL = "--all"
ANSWER = "answer.json"
RUNS = "runs"

# With these a run has said which tests failed, if any.
_JUDGED = (0, 1, MemtypeError.exit_status)


@dataclass
class Trial:
    """The suite's verdict on a fault.

    :ivar killed_by: Tests that failed, without the kernel in their ids, in the order in which they did.
    :ivar passed: Number of tests that passed.
    :ivar skipped: Number of tests that were skipped.
    :ivar trouble: Why nothing can be said of the fault: the host couldn't do its part. Empty for others.
    """

    killed_by: list[str] = field(default_factory=list)
    passed: int = 0
    skipped: int = 0
    trouble: str = ""


class _Watch:
    """A plugin for pytest that notes what becomes of the tests."""

    def __init__(self, kernel: str) -> None:
        self._kernel = kernel
        self.trial = Trial()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            test = case_of(report.nodeid, self._kernel)
            if blame_of(report) is Blame.HOST:
                first = str(report.longrepr).partition("\n")[0]
                self.trial.trouble = self.trial.trouble or harmless(f"{test}: {first}")
            elif test not in self.trial.killed_by:
                self.trial.killed_by.append(test)
        elif report.skipped:
            self.trial.skipped += 1
        elif report.when == "call":
            self.trial.passed += 1


def trial(kernel: str, mutant: str, *, suite: Path, folder: Path, first: list[str], every: bool) -> Trial:
    """Run the suite with a fault switched on, until a test fails.

    :param kernel: The kernel, ``tree:PATH``.
    :param mutant: The fault's name, or ``none``.
    :param suite: The folder of the tests.
    :param folder: For the runs' folders.
    :param first: Names of files of the suite to run before the rest.
    :param every: Run all tests, whatever fails.
    """
    files = [suite / name for name in first if (suite / name).is_file()]
    watch = _Watch(kernel)
    common = ["--kernel", kernel, "--mutant", mutant, "-q", "--tb=short", "-p", "no:cacheprovider"]
    common += ["-p", "no:randomly", "--memtype-dir", str(folder / RUNS), *([] if every else ["-x"])]
    if every or not files:
        _judge(run_suite([*common, str(suite)], plugins=[watch]), watch.trial)
        return watch.trial
    _judge(run_suite([*common, *map(str, files)], plugins=[watch]), watch.trial)
    rest = set(suite.rglob("test_*.py")) - set(files)
    if rest and not watch.trial.killed_by and not watch.trial.trouble:
        ignored = [f"--ignore={file}" for file in files]
        _judge(run_suite([*common, *ignored, str(suite)], plugins=[watch]), watch.trial)
    return watch.trial


def _judge(status: int, trial: Trial) -> None:
    if status not in _JUDGED and not trial.killed_by and not trial.trouble:
        trial.trouble = f"pytest ended with status {status}"
    if status == MemtypeError.exit_status and not trial.killed_by and not trial.trouble:
        trial.trouble = "the guests couldn't be used"


def main() -> int:
    """Run one trial and write its answer."""
    # A shell that starts a command in the background has it ignore Ctrl-C, by which this process is ended.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    kernel, mutant, suite, where, *rest = sys.argv[1:]
    folder, first = Path(where), [each for each in rest if each != ALL]
    try:
        made = trial(kernel, mutant, suite=Path(suite), folder=folder, first=first, every=ALL in rest)
    except KeyboardInterrupt:
        return INTERRUPTED
    except MemtypeError as error:
        made = Trial(trouble=error.message)
    (folder / ANSWER).write_bytes(msgspec.json.encode(made))
    sys.stdout.flush()
    # Nothing that a hung guest has left behind may keep the process.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
