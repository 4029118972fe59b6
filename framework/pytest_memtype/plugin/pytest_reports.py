"""Pytest's reports of one test, on its set-up, call and teardown: what they come to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pytest

from pytest_memtype.report.result import Status
from pytest_memtype.run.blame import Blame, blame_of

_LONGEST: Final = 300


def worst_of(reports: Sequence[pytest.TestReport]) -> pytest.TestReport:
    """The report that decides: the first that failed, else the first that was skipped, else the last.

    :param reports: All reports of a test, at least one.
    """
    return next((each for each in reports if each.failed), None) or next(
        (each for each in reports if each.skipped), reports[-1]
    )


def status_of(reports: Sequence[pytest.TestReport]) -> Status:
    """Tell how a test ended.

    :param reports: All reports of it, at least one.
    """
    worst = worst_of(reports)
    # pytest calls a test that failed as expected skipped, and has the reason in an attribute of its own.
    expected = any(hasattr(each, "wasxfail") for each in reports)
    if worst.failed:
        if any(each.failed and blame_of(each) is not Blame.TEST for each in reports):
            return Status.MISSED
        return Status.FAILED if worst.when == "call" else Status.ERROR
    if worst.skipped:
        return Status.XFAILED if hasattr(worst, "wasxfail") else Status.SKIPPED
    return Status.XPASSED if expected else Status.PASSED


def is_last(report: pytest.TestReport, reports: Sequence[pytest.TestReport]) -> bool:
    """Whether no other report comes of a test, as nobody has run it to its end.

    A cluster's client says so of a test that is given up, pytest-xdist of one whose worker has died ("???").

    :param report: The report.
    :param reports: Those of the test so far, this one among them.
    """
    if report.when in ("setup", "call", "teardown"):
        return report.when == "call" and all(each.when != "setup" for each in reports)
    return True


def headline_of(report: pytest.TestReport) -> str:
    """Why a test failed or was skipped, in one line of at most 300 characters; empty for one that passed.

    :param report: The report that decides.
    """
    if report.passed:
        return ""
    if hasattr(report, "wasxfail"):
        text = str(report.wasxfail)
    elif isinstance(report.longrepr, tuple):
        text = str(report.longrepr[2]).removeprefix("Skipped: ")
    else:
        crash = getattr(report.longrepr, "reprcrash", None)
        # longreprtext would begin with the worker of pytest-xdist.
        text = str(report.longrepr) if crash is None else crash.message
    return " ".join(text.strip().partition("\n")[0].split())[:_LONGEST]
