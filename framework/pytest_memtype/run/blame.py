"""Where the fault of a failed test lies: an attribute of its report, which travels between processes."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import pytest

from pytest_memtype.errors import GuestHung, GuestPanicked, HostError, KernelError, MemtypeError

ATTRIBUTE: Final = "memtype_blame"
"""The attribute's name; its value is that of a :class:`Blame`."""


class Blame(StrEnum):
    """Where the fault of a test that failed lies."""

    TEST = "test"
    """In what the test found, or in the test."""
    KERNEL = "kernel"
    """The guest's kernel panicked, or gave no answer any more."""
    GUEST = "guest"
    """A guest couldn't be started or used, or ended."""
    HOST = "host"
    """No guest has a part in it."""


def blame_for(error: BaseException) -> Blame:
    """Tell where the fault lies by the error that ended a test.

    :param error: Any exception.
    """
    if isinstance(error, (GuestPanicked, GuestHung)):
        return Blame.KERNEL
    if isinstance(error, (HostError, KernelError)):
        return Blame.HOST
    if isinstance(error, MemtypeError) and error.exit_status == MemtypeError.exit_status:
        return Blame.GUEST
    return Blame.TEST


def set_blame(report: pytest.TestReport, blame: Blame) -> None:
    """Note it in a report.

    :param report: The report of a test that failed.
    :param blame: Where its fault lies.
    """
    # The plain text: execnet, by which pytest-xdist sends reports, takes no subclass of it.
    vars(report)[ATTRIBUTE] = blame.value


def blame_of(report: pytest.TestReport) -> Blame:
    """Tell where the fault of a test that failed lies.

    :param report: A report of it, perhaps from another process.
    """
    # pytest-xdist's own report of a test whose worker has died, of which no hook of ours knows.
    unknown = Blame.HOST if report.when not in ("setup", "call", "teardown") else Blame.TEST
    return Blame(getattr(report, ATTRIBUTE, unknown))
