"""The part of the pytest plugin that keeps what records don't say: each test's result, layouts, the run."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Generator
from dataclasses import asdict
from typing import Any

import msgspec
import pytest

from pytest_memtype.errors import HostError, MemtypeError
from pytest_memtype.host.own_version import own_version
from pytest_memtype.machine.uncovered import as_started
from pytest_memtype.plugin.bugs import marker_of
from pytest_memtype.plugin.config import below, run_of, summing_up
from pytest_memtype.plugin.fixtures import AUDITED, GUESTS
from pytest_memtype.plugin.pytest_reports import headline_of, is_last, status_of, worst_of
from pytest_memtype.plugin.session import variant_by_id, variant_of
from pytest_memtype.report import layout_map
from pytest_memtype.report.kept import (
    LAYOUTS,
    MOST_TEXT,
    TESTS,
    KeptAudit,
    KeptLayout,
    KeptTest,
    RunFacts,
    append_line,
    write_facts,
)
from pytest_memtype.report.record import case_of
from pytest_memtype.run.alias_check import Checked
from pytest_memtype.run.folder import test_folder
from pytest_memtype.run.options import OPTIONS
from pytest_memtype.run.session import GuestSpec
from pytest_memtype.site.folder import check_target

_MOST_FINDINGS = 32
_drawn = pytest.StashKey[set[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Register the plugin of the process that talks to the user, and check where its report is to go."""
    if hasattr(config, "workerinput"):
        return
    folder = config.getoption("--memtype-html")
    if folder is not None:
        try:
            check_target(folder)
        except MemtypeError as error:
            raise pytest.UsageError(f"memtype: {error.message}") from None
    config.pluginmanager.register(Keeper(config), "memtype-keeper")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach to a test's report what is kept of the test."""
    report = yield
    variant = variant_of(item)
    if variant is None:
        return report
    if call.when == "call":
        vars(report)["memtype_layouts"] = _layouts(item)
    if call.when == "teardown":
        try:
            bug = marker_of(item)
        except MemtypeError:
            bug = None  # The test has failed with that.
        vars(report)["memtype_kept"] = {
            "case": case_of(item.nodeid, variant.name),
            "tested": variant.tested,
            "kernel": variant.kernel,
            "system": variant.system,
            "path": below(item.config.invocation_params.dir, item.path),
            "bug": "" if bug is None else bug.id,
            "bug_title": "" if bug is None else bug.title,
            "folders": _folders(item),
            "audits": [
                kept
                for kept in [_audit(each) for each in item.stash.get(AUDITED, [])]
                if kept["findings"] or kept["since_boot"] or kept["observed"] or kept["trouble"]
            ],
        }
    return report


def _folders(item: pytest.Item) -> list[str]:
    """The folders of the run that hold the test's logs, but for its own."""
    guests = item.stash.get(GUESTS, None)
    if guests is None:
        return []
    target = guests.session.target
    found = [guests.logs, *([] if target is None else [target.logs])]
    return [each.name for each in found if each != test_folder(each.parent, item.nodeid)]


def _layouts(item: pytest.Item) -> list[dict[str, Any]]:
    """The pictures of the layouts that the test's guests have, but for those that this process has drawn."""
    guests = item.stash.get(GUESTS, None)
    if guests is None or guests.session.target is not None:
        return []
    drawn = item.config.stash.setdefault(_drawn, set())
    found = []
    for each in guests.guests:
        kind = repr((each.kind.layout, each.kind.hardware))
        if kind not in drawn:
            drawn.add(kind)
            found.append(asdict(_layout(each.kind, item.nodeid)))
    return found


def _layout(kind: GuestSpec, test: str) -> KeptLayout:
    hardware = as_started(kind.layout, kind.hardware)
    picture = layout_map.layout_map(kind.layout, hardware)
    return KeptLayout(
        layout=kind.layout.name,
        hardware=asdict(hardware),
        test=test,
        picture=layout_map.svg(picture).decode(),
        remark=layout_map.remark(picture, hardware),
    )


def _audit(checked: Checked) -> dict[str, Any]:
    # Where a guest has an alias the audit's modules are loaded.
    found: list[dict[str, Any]] = []
    worst = sorted(checked.conflicts, key=lambda each: -each.danger)[:_MOST_FINDINGS]
    if worst:
        from pytest_memtype.report.audit_report import finding_json

        found = [finding_json(each) for each in worst]
    return asdict(
        KeptAudit(
            guest=checked.guest,
            findings=found,
            excused=[each not in checked.unexcused for each in worst],
            since_boot=list(checked.since_boot),
            observed=[str(each) for each in checked.observed],
            trouble=checked.trouble,
            picture=checked.picture,
            left=len(checked.conflicts) - len(worst),
        )
    )


class Keeper:
    """A plugin of the process that talks to the user: writes what is kept, and the report for browsers."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._began = time.time()
        self._reports: dict[str, list[pytest.TestReport]] = {}
        self._layouts: set[str] = set()
        self._kept = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write a line when a test has ended."""
        if report.when == "setup":
            # It may be run again, as pytest-rerunfailures does.
            self._reports[report.nodeid] = []
        self._reports.setdefault(report.nodeid, []).append(report)
        try:
            for each in getattr(report, "memtype_layouts", []):
                layout = msgspec.convert(each, KeptLayout)
                if layout.picture not in self._layouts:
                    self._layouts.add(layout.picture)
                    append_line(run_of(self._config) / LAYOUTS, layout)
            if report.when == "teardown" or is_last(report, self._reports[report.nodeid]):
                reports = self._reports.pop(report.nodeid)
                kept = getattr(report, "memtype_kept", None) or self._by_id(report)
                if kept is not None:
                    self._kept = True
                    append_line(run_of(self._config) / TESTS, _result(reports, kept))
        except HostError as error:
            pytest.exit(f"memtype: {error}", returncode=error.exit_status)
        except msgspec.ValidationError as error:
            raise HostError(f"{report.nodeid}: what its worker says of it makes no sense: {error}") from None

    def _by_id(self, report: pytest.TestReport) -> dict[str, Any] | None:
        """The facts of a test that nobody has run to its end, by its id; None for another suite's."""
        variant = variant_by_id(self._config, report.nodeid) if report.when != "teardown" else None
        if variant is None:
            return None
        path = self._config.rootpath / report.location[0]
        return {
            "case": case_of(report.nodeid, variant.name),
            "tested": variant.tested,
            "kernel": variant.kernel,
            "system": variant.system,
            "path": below(self._config.invocation_params.dir, path),
        }

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> Generator[None, None, None]:
        """Write the run's facts and the report, after everything else is written."""
        yield
        if not self._kept:
            return
        run = run_of(self._config)
        folder = self._config.getoption("--memtype-html")
        with summing_up(terminalreporter):
            write_facts(run, self._facts(int(terminalreporter._session.exitstatus)))
            if folder is not None:
                # The import loads jinja2, which no other run needs.
                from pytest_memtype.site.build import write_site

                write_site([run], folder)
                terminalreporter.write_line(f"report: {folder / 'index.html'}")

    def _facts(self, status: int) -> RunFacts:
        return RunFacts(
            started=time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(self._began)),
            seconds=round(time.time() - self._began, 1),
            exit_status=status,
            options=_options(self._config),
            versions={
                "pytest-memtype": own_version(),
                "pytest": pytest.__version__,
                "Python": platform.python_version(),
                "host's kernel": platform.release(),
            },
            host={
                "processor": platform.machine(),
                "CPUs": str(len(os.sched_getaffinity(0))),
                "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') >> 20} MiB",
            },
        )


def _options(config: pytest.Config) -> list[str]:
    """The options of the table that were given, as words of a command line."""
    words = []
    for option in OPTIONS:
        value = config.getoption(option.name)
        if value in (None, False, option.default) or option.name == "--memtype-html":
            continue
        for each in value if isinstance(value, list) else [value]:
            words += [option.name] if each is True else [option.name, str(each)]
    return words


def _result(reports: list[pytest.TestReport], kept: dict[str, Any]) -> KeptTest:
    worst = worst_of(reports)
    result = {
        **kept,
        "test": _whole(worst.nodeid),
        "status": status_of(reports).value,
        "seconds": round(sum(each.duration for each in reports), 3),
        "headline": _whole(headline_of(worst)),
        "details": _whole(_details(worst)) if worst.failed else "",
    }
    for name in ("path", "case"):
        if isinstance(kept.get(name), str):
            result[name] = _whole(kept[name])
    return msgspec.convert(result, KeptTest)


def _whole(text: str) -> str:
    """Text that JSON can hold: half characters, as of a path that isn't UTF-8, are written as escapes."""
    return text.encode(errors="backslashreplace").decode()


def _details(report: pytest.TestReport) -> str:
    parts = [report.longreprtext, *(f"--- {name}\n{text}" for name, text in report.sections)]
    return "\n".join(parts)[-MOST_TEXT:]
