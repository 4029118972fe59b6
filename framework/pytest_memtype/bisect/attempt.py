"""Tell whether a test passes on a kernel: ``python -m pytest_memtype.bisect.attempt KERNEL TEST``.

Ends with status 0 when the test passes, 1 when it fails, and 125, which tells git to skip a commit, when that
can't be known: the kernel doesn't build or boot, or the test is skipped on it. A kernel that panics or hangs
in the test fails it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from pytest_memtype.errors import INTERRUPTED, MemtypeError, UsageError, harmless
from pytest_memtype.host import resources
from pytest_memtype.report.record import case_of
from pytest_memtype.run.blame import Blame, blame_of
from pytest_memtype.run.suite import run_suite

PASSED, FAILED, UNKNOWN = "passed", "failed", "unknown"
_STATUS = {PASSED: 0, FAILED: 1, UNKNOWN: 125}

_TRIES = 3


@dataclass(frozen=True)
class Attempt:
    """The outcome of a test on a kernel.

    :param answer: ``passed``, ``failed`` or ``unknown``.
    :param tries: The answer of each try. Two that agree are enough.
    :param reason: Why the answer is ``unknown``, or how the kernel died in a test that failed; else empty.
    :param trouble: Whether it is ``unknown`` because the host or a guest couldn't be used.
    """

    answer: str
    tries: tuple[str, ...]
    reason: str = ""
    trouble: bool = False

    @property
    def flaky(self) -> bool:
        """Did the tries disagree?"""
        return len(set(self.tries)) > 1


@dataclass(frozen=True)
class NodeSelector:
    """A test as the user names it, for any kernel.

    :param file: The file that it is in.
    :param name: Its name with class and parameters, if any; without parameters all of them are meant.
    """

    file: Path
    name: str

    def means(self, file: Path, name: str, kernel: str) -> bool:
        """Does this selector mean a test that pytest has collected?

        :param file: The file of the collected test.
        :param name: The rest of its node id.
        :param kernel: The kernel, as the test's id names it.
        """
        plain = case_of(name, kernel)
        return file == self.file and self.name in (plain, plain.partition("[")[0])


def find_test(test: str) -> NodeSelector:
    """Find the test of a node id; its file is looked for here, then in the project's suite.

    :param test: pytest's node id, without a kernel.
    :raises UsageError: there is no such file, or the id names no test in it.
    """
    path, _, name = test.partition("::")
    for file in (Path(path), resources.testcases().parent / path):
        if file.is_file() and name:
            return NodeSelector(file.resolve(), name)
    raise UsageError(f"{test!r}: no test; name it as pytest does, such as testcases/test_ram.py::test_it")


class _Only:
    """A plugin for pytest that selects one test, and notes how it ends."""

    def __init__(self, test: NodeSelector, kernel: str) -> None:
        self._test = test
        self._kernel = kernel
        self.outcomes: list[str] = []
        self.reason = ""
        self.trouble = False

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        def meant(item: pytest.Item) -> bool:
            return self._test.means(item.path, item.nodeid.partition("::")[2], self._kernel)

        config.hook.pytest_deselected(items=[item for item in items if not meant(item)])
        items[:] = [item for item in items if meant(item)]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        blame = blame_of(report)
        # The boot isn't the test: a kernel that dies there may have any fault.
        died = report.when == "call" and blame is Blame.KERNEL
        trouble = report.failed and blame is not Blame.TEST and not died
        if report.skipped or (report.failed and (trouble or report.when != "call")):
            self.outcomes.append(UNKNOWN)
            self.trouble = self.trouble or trouble
            self.reason = _first_line(report)
        elif report.when == "call":
            self.outcomes.append(report.outcome)
            if died:
                self.reason = _first_line(report)


def _first_line(report: pytest.TestReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    # What a test says may have half characters, which no file of JSON can hold.
    return harmless(text.splitlines()[0]) if text else report.outcome


def attempt(kernel: str, test: NodeSelector, arguments: Sequence[str] = ()) -> Attempt:
    """Run a test until two tries agree, three times at most.

    :param kernel: The spec of an exact kernel, as test ids name it.
    :param test: The test to run.
    :param arguments: Further command line for pytest.
    """
    tries: list[str] = []
    reason, trouble = "", False
    while len(tries) < _TRIES and max((tries.count(each) for each in tries), default=0) < 2:
        only = _Only(test, kernel)
        try:
            options = ["--kernel", kernel, "-n", "0", "-q", "--no-summary", "-p", "no:cacheprovider"]
            run_suite([*options, *arguments, str(test.file)], plugins=[only])
        except MemtypeError as error:
            return Attempt(UNKNOWN, (UNKNOWN,), error.message, not isinstance(error, UsageError))
        reason = only.reason or ("" if only.outcomes else "no such test")
        trouble = only.trouble
        if UNKNOWN in only.outcomes or not only.outcomes:
            tries.append(UNKNOWN)
        else:
            tries.append(FAILED if FAILED in only.outcomes else PASSED)
        if tries[-1] == UNKNOWN:
            break
    answer = UNKNOWN if UNKNOWN in tries else max(set(tries), key=tries.count)
    # The last try is one that agrees with the answer.
    return Attempt(answer, tuple(tries), reason, trouble)


def main() -> int:
    """Make an attempt with the arguments of the command line; a third one names a file for it as JSON."""
    kernel, test, *file = sys.argv[1:]
    try:
        made = attempt(kernel, find_test(test))
    except KeyboardInterrupt:
        # More than 127 ends git bisect, too.
        return INTERRUPTED
    except MemtypeError as error:
        print(f"memtype: {error}", file=sys.stderr)
        return error.exit_status
    if file:
        Path(file[0]).write_bytes(msgspec.json.encode(made))
    return _STATUS[made.answer]


if __name__ == "__main__":
    sys.exit(main())
