"""The result of a test, as files for other programs tell it: KTAP, KCIDB, a job's summary."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from pytest_memtype.report.properties import Properties


class Status(Enum):
    """The outcome of a test. ``MISSED``: the host or its guest couldn't be used, so nothing is known."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    MISSED = "missed"
    SKIPPED = "skipped"
    XFAILED = "failed as expected"
    XPASSED = "passed unexpectedly"

    @property
    def is_bad(self) -> bool:
        """Does a run with such a test fail?"""
        return self in (Status.FAILED, Status.ERROR, Status.MISSED)


@dataclass(frozen=True)
class Result:
    """The result of one test.

    :param test: pytest's node id.
    :param status: What came of it.
    :param seconds: How long it took, with its guests' start and end.
    :param started: When it began, in seconds since 1970; 0 where it isn't known.
    :param headline: Why it failed or was skipped, in one line; else empty.
    :param details: All that pytest says of a failure; else empty.
    :param properties: See :mod:`pytest_memtype.report.properties`.
    :param line: Line of the test in its file, from 1; 0 where it isn't known.
    """

    test: str
    status: Status
    seconds: float
    started: float
    headline: str = ""
    details: str = ""
    properties: Properties = field(default_factory=dict)
    line: int = 0

    @property
    def file(self) -> str:
        """The file of the test, as a path from pytest's root folder."""
        return self.test.partition("::")[0]

    @property
    def name(self) -> str:
        """The test within its file."""
        return self.test.partition("::")[2] or self.test

    @property
    def kernel(self) -> str:
        """The kernel in the test's id; empty for a test without one."""
        return self.properties.get("tested", "")


def by_kernel(results: Iterable[Result]) -> dict[str, list[Result]]:
    """Results by the kernel in the tests' ids, in the order of the run."""
    found: dict[str, list[Result]] = {}
    for each in results:
        found.setdefault(each.kernel, []).append(each)
    return found
