"""A run of pytest in a log: a line for each tenth of the tests, not a character for each of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


class LogLines:
    """A plugin for pytest that prints whole lines instead of rows of characters; with ``-v`` nothing."""

    def __init__(self) -> None:
        self._session: pytest.Session | None = None
        self._done = 0
        self._bad: set[str] = set()

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        self._session = session
        if (reporter := self._reporter()) is not None:
            # No name of a file that a row would follow.
            reporter.showfspath = False
            # pytest 8.0 writes a percentage behind the last row, whether there is one or not.
            reporter._show_progress_info = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """End it: the summary, too, asks for the words of a status, such as SKIPPED."""
        self._session = None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_report_teststatus(self) -> Iterator[Any]:
        """Have a test counted as ever, and no character printed for it."""
        status = yield
        if status is None or self._reporter() is None:
            return status
        return status[0], "", ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._bad.add(report.nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self) -> None:
        """Count a test, and print a line where a tenth is full."""
        self._done += 1
        reporter = self._reporter()
        if self._session is None or reporter is None:
            return
        total = max(self._session.testscollected, self._done)
        tenth = max(total // 10, 1)
        if self._done % tenth == 0 or self._done == total:
            reporter.write_line(f"{self._done} of {total} tests, {len(self._bad)} failed")

    def _reporter(self) -> Any:
        if self._session is None or self._session.config.get_verbosity() > 0:
            return None
        return self._session.config.pluginmanager.getplugin("terminalreporter")
