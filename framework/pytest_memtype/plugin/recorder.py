"""The part of the pytest plugin that collects the records of tests, writes them and draws the tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pytest

from pytest_memtype.errors import HostError
from pytest_memtype.guest.kernel_list import ListEntry
from pytest_memtype.host.files import write_atomically
from pytest_memtype.host.private_folder import remove_leftovers
from pytest_memtype.plugin.config import run_of, summing_up
from pytest_memtype.plugin.target import the_target
from pytest_memtype.report.compare_table import between_kernels
from pytest_memtype.report.overview_table import overview
from pytest_memtype.report.record import Record, apart, append, where_of
from pytest_memtype.report.terminal import drawn, print_to
from pytest_memtype.report.verdict_table import notes, rows, summary, verdict_table
from pytest_memtype.run.alias_check import audit_summary

MOST_ROWS: Final = 40
"""Most rows of verdict tables that are printed; a run with more prints the overview."""


class Recorder:
    """A plugin of the process that talks to the user: collects the records, writes them, draws the tables."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.records: list[Record] = []
        self.audits: list[tuple[float, str, tuple[str, ...]]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        records: list[Record] = getattr(report, "memtype_records", [])
        if records:
            try:
                append(run_of(self.config) / "records.jsonl", records)
            except HostError as error:
                pytest.exit(f"memtype: {error}", returncode=error.exit_status)
            if not getattr(report, "memtype_reproduces", False):
                # Reproducers have a matrix of their own.
                self.records += records
        self.audits += getattr(report, "memtype_audits", [])

    def pytest_sessionfinish(self) -> None:
        # Workers of pytest-xdist that were killed had no chance to remove their folders.
        remove_leftovers()

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self.records:
            return
        run = run_of(self.config)
        pictures: list[Any] = []
        for where, records in apart(self.records, where_of).items():
            pictures += [verdict_table(where, records), summary(records)]
        much = len(rows(self.records)) > MOST_ROWS and self.config.get_verbosity() < 1
        if much:
            with summing_up(terminalreporter):
                write_atomically(run / "verdicts.txt", drawn(pictures).encode())
            pictures = [overview(self.records)]
        pictures += between_kernels(self.records)
        terminalreporter.section("memory types")
        print_to(terminalreporter, pictures)
        if much:
            terminalreporter.write_line(f"each verdict: {run / 'verdicts.txt'}, or here with -v")
        target = the_target(self.config)
        left = [] if target is None else _left(target.left)
        for line in (*notes(self.records), *audit_summary(self.audits), *left):
            terminalreporter.write_line(line)
        terminalreporter.write_line(f"records: {run / 'records.jsonl'}")


def _left(entries: Sequence[ListEntry]) -> list[str]:
    """A line on the reservations that a target's kernel keeps; none without any."""
    if not entries:
        return []
    ranges = ", ".join(map(str, entries))
    return [f"reservations that the target's kernel keeps until it reboots: {len(entries)}: {ranges}"]
