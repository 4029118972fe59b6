"""The part of the pytest plugin for reported bugs: the marker and the fixture ``bug``, and their matrix."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pytest_memtype.bugs.facts import Bug, Sighting, Status, facts
from pytest_memtype.bugs.matrix import Cell, matrix
from pytest_memtype.errors import UsageError
from pytest_memtype.guest.guest import Guest
from pytest_memtype.plugin.config import run_of, summing_up
from pytest_memtype.report.properties import pairs
from pytest_memtype.report.record import append_lines
from pytest_memtype.report.terminal import print_to
from pytest_memtype.spec.linux_versions import parse_version

_sighting = pytest.StashKey[Sighting]()
_status = pytest.StashKey[Status]()


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker ``bug`` known, and register the recorder of its results."""
    config.addinivalue_line(
        "markers",
        "bug(id=, title=, core=, introduced=, fixed=, backports=, kind=): "
        "what is known of the reported bug that the test reproduces",
    )
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(BugRecorder(config), "memtype-bugs")


@pytest.fixture
def bug(request: pytest.FixtureRequest, guest: Guest, memtype_kernel_version: str) -> Sighting:
    """The sighting of a reproducer, which notes whether the harm of its marker ``bug`` occurred."""
    reported = marker_of(request.node)
    if reported is None:
        raise UsageError(f"{request.node.nodeid}: the fixture bug needs the marker bug, with what is known")
    try:
        version = parse_version(memtype_kernel_version)
    except ValueError:
        # That of a target's kernel isn't known, and a release of Debian's lacks the last number.
        version = parse_version(guest.shell("cat /proc/version").output)
    sighting = Sighting(
        reported,
        version,
        guest,
        expect=lambda match: request.node.add_marker(pytest.mark.expect_oops(match=match)),
    )
    request.node.stash[_sighting] = sighting
    return sighting


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Fail a reproducer that saw something else than the facts of its bug say."""
    result = yield
    sighting = item.stash.get(_sighting, None)
    if sighting is not None:
        try:
            item.stash[_status] = sighting.judge()
        except AssertionError as error:
            pytest.fail(str(error), pytrace=False)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach the cell of a reproducer, and its evidence, to the report of the test."""
    report = yield
    sighting = item.stash.get(_sighting, None)
    if report.when == "teardown":
        vars(report)["memtype_reproduces"] = item.get_closest_marker("bug") is not None
    if sighting is not None and report.when == "call":
        # A check of the kernel's reports may fail a test that saw its bug.
        status = item.stash.get(_status, Status.FAILED) if report.passed else Status.FAILED
        if report.skipped:
            status = Status.SKIPPED
        cell = Cell(
            bug=sighting.facts.id,
            kernel=sighting.release,
            version=".".join(map(str, sighting.version)),
            test=item.nodeid,
            status=status.value,
            evidence=tuple(sighting.evidence),
        )
        vars(report)["memtype_bug"] = msgspec.to_builtins(cell)
        about = {"bug": cell.bug, "bug.outcome": cell.status, "bug.title": sighting.facts.title}
        item.user_properties += pairs(about)
        if sighting.evidence:
            report.sections.append(("reported bug", "\n".join(sighting.evidence)))
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Show a reproducer that passed with its status in the matrix."""
    cell = getattr(report, "memtype_bug", None)
    if cell is None or not report.passed:
        return None
    # A reproducer that passed is counted as passed.
    return "passed", cell["status"][0], cell["status"]


def marker_of(node: pytest.Item) -> Bug | None:
    """The facts of a test's bug; None if it reproduces none.

    :param node: The test.
    :raises UsageError: the marker's facts can't be used.
    """
    marker = node.get_closest_marker("bug")
    if marker is None:
        return None
    if marker.args:
        raise UsageError(f"{node.nodeid}: marker bug: all of its arguments have names")
    return facts(marker.kwargs, where=node.nodeid)


class BugRecorder:
    """A plugin of the process that talks to the user: collects the cells, writes them, draws the matrix."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.cells: list[Cell] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        cell = getattr(report, "memtype_bug", None)
        if cell is not None:
            self.cells.append(msgspec.convert(cell, Cell))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self.cells:
            return
        terminalreporter.section("reported bugs")
        print_to(terminalreporter, [matrix(self.cells)])
        with summing_up(terminalreporter):
            append_cells(run_of(self.config) / "bugs.jsonl", self.cells)


def append_cells(path: Path, cells: list[Cell]) -> None:
    """Write the cells of a run's reproducers to a file, one line of JSON each.

    :param path: The file.
    :param cells: The cells.
    :raises HostError: they can't be written.
    """
    append_lines(path, msgspec.json.Encoder().encode_lines(cells))
