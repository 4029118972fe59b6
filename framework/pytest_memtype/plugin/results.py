"""The part of the pytest plugin that tells other programs of a run: JUnit, KTAP, KCIDB, GitHub Actions."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from _pytest.junitxml import xml_key

from pytest_memtype.errors import MemtypeError, UsageError
from pytest_memtype.host.files import write_atomically
from pytest_memtype.plugin.config import base_of, below, run_name
from pytest_memtype.plugin.pytest_reports import headline_of, is_last, status_of, worst_of
from pytest_memtype.plugin.session import variant_by_id
from pytest_memtype.report.job_summary import SUMMARY, add_to_summary, error_lines, job_summary
from pytest_memtype.report.kcidb import ORIGIN, kcidb
from pytest_memtype.report.ktap import ktap
from pytest_memtype.report.properties import PREFIX, Properties, properties, read_pairs, summed
from pytest_memtype.report.result import Result

_FILES: Final = ("--ktap", "--kcidb")


class Results:
    """A plugin of the process that talks to the user: collects the results of all tests, and writes them.

    :param config: pytest's configuration.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._reports: dict[str, list[pytest.TestReport]] = {}
        self._stopped = ""

    def pytest_sessionstart(self) -> None:
        """Check the options for files, before any test.

        :raises UsageError: a file can't be written there, or the origin is none.
        """
        try:
            for option in _FILES:
                path = self._config.getoption(option)
                if path is not None:
                    _check_place(option, path)
            origin = self._config.getoption("--kcidb-origin")
            if not ORIGIN.fullmatch(origin):
                raise UsageError(f"--kcidb-origin {origin!r}: use small letters, digits and _")
        except UsageError as error:
            raise pytest.UsageError(f"memtype: {error.message}") from None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        reports = self._reports.setdefault(report.nodeid, [])
        if report.when == "setup":
            # It is run again, as pytest-rerunfailures does.
            reports.clear()
        reports.append(report)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Iterator[None]:
        """Write the files, and add to pytest's own of JUnit, which follows.

        One that can't be written changes the exit status, and nothing that others write and print.
        """
        if self._config.option.collectonly:
            return (yield)
        self._add_to_junit()
        said = ""
        try:
            self._write_files()
        except MemtypeError as error:
            is_usage = isinstance(error, UsageError)
            session.exitstatus = pytest.ExitCode.USAGE_ERROR if is_usage else error.exit_status
            said = f"memtype: {error.message}"
        try:
            return (yield)
        finally:
            # Behind pytest's summary.
            reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
            if said and reporter is not None:
                reporter.write_line(said, red=True)

    def _add_to_junit(self) -> None:
        results = self.results()
        ours = any(each.properties for each in results)
        xml = self._config.stash.get(xml_key, None)
        if xml is not None and ours:
            for name, text in summed(each.properties for each in results).items():
                xml.add_global_property(PREFIX + name, text)
            xml.add_global_property(f"{PREFIX}evidence", self._run())

    def _write_files(self) -> None:
        results = self.results()
        ktap_file, kcidb_file = (self._config.getoption(option) for option in _FILES)
        if ktap_file is not None:
            write_atomically(ktap_file, ktap(results).encode())
        if kcidb_file is not None:
            origin = self._config.getoption("--kcidb-origin")
            report = kcidb(results, origin=origin, run=run_name())
            write_atomically(kcidb_file, json.dumps(report, indent=1).encode() + b"\n")
        if any(each.properties for each in results):
            add_to_summary(job_summary(results, run=self._run()))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> Iterator[None]:
        """Print pytest's summary, in which a line of a guest's must be no command to GitHub's runner."""
        if os.environ.get(SUMMARY) and any(each.properties for each in self.results()):
            self._stopped = secrets.token_hex(16)
            terminalreporter.write_line(f"::stop-commands::{self._stopped}")
        return (yield)

    def pytest_unconfigure(self) -> None:
        """Print the annotations for GitHub, last."""
        if not self._stopped:
            return
        writer = self._config.get_terminal_writer()
        writer.line(f"::{self._stopped}::")
        for line in error_lines(self.results()):
            writer.line(line)

    def results(self) -> list[Result]:
        """The results so far, in the order of the run."""
        return [
            _result(nodeid, reports, self._about(reports[-1])) for nodeid, reports in self._reports.items()
        ]

    def _about(self, last: pytest.TestReport) -> Properties:
        if last.user_properties or not is_last(last, self._reports[last.nodeid]):
            return read_pairs(last.user_properties)
        # Nobody has run it to its end, and somebody has said so: a kernel in its id makes it ours.
        variant = variant_by_id(self._config, last.nodeid)
        return {} if variant is None else properties([], [], tested=variant.name, evidence="")

    def _run(self) -> str:
        return below(self._config.rootpath, base_of(self._config) / "runs" / run_name())


def _check_place(option: str, path: Path) -> None:
    if not path.absolute().parent.is_dir():
        raise UsageError(f"{option} {path}: there is no folder {path.parent}; make it, or name another file")
    if path.is_dir():
        raise UsageError(f"{option} {path}: is a folder; name a file")


def _result(nodeid: str, reports: list[pytest.TestReport], about: Properties) -> Result:
    worst = worst_of(reports)
    line = worst.location[1] if worst.location else None
    return Result(
        test=nodeid,
        status=status_of(reports),
        seconds=sum(each.duration for each in reports),
        started=float(getattr(reports[0], "start", 0.0)),
        headline=headline_of(worst),
        details=_details(worst) if worst.failed else "",
        properties=about,
        line=0 if line is None else line + 1,
    )


def _details(report: pytest.TestReport) -> str:
    ours = [text for name, text in report.sections if name in ("memtype", "reported bug")]
    return "\n".join([report.longreprtext, *ours])
