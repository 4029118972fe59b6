"""Hooks of the plugin for each step of pytest: a run's begin and end, collection, a test, its report."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from pytest_memtype.errors import (
    GuestPanicked,
    MemtypeError,
    Unavailable,
    UsageError,
)
from pytest_memtype.kernels import mirror
from pytest_memtype.machine.timeouts import patience
from pytest_memtype.plugin.config import base_of, below, progress_of, run_name, say_the_rest
from pytest_memtype.plugin.failure import machines, operations
from pytest_memtype.plugin.fixtures import (
    AUDITED,
    CONTEXTS,
    FAILED,
    GUESTS,
    NEXT,
    RECORDS,
    SINCE,
    settle,
)
from pytest_memtype.plugin.markers import (
    add_markers,
    check_distribution,
    check_markers,
    expected_alias,
    expected_reports,
)
from pytest_memtype.plugin.recorder import Recorder
from pytest_memtype.plugin.results import Results
from pytest_memtype.plugin.session import end_ahead, for_workers, trouble_of, variant_of, variants_of_test
from pytest_memtype.plugin.target import the_target
from pytest_memtype.report.properties import Properties, pairs, properties
from pytest_memtype.report.record import Record
from pytest_memtype.run.alias_check import alias_complaint
from pytest_memtype.run.blame import Blame, blame_for, set_blame
from pytest_memtype.run.expected_reports import complaint
from pytest_memtype.run.session import GuestsOfTest
from pytest_memtype.run.variants import Variant

_workers_trouble = pytest.StashKey[tuple[str, int]]()
_remarked = pytest.StashKey[set[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known, register the recorder, and prepare the use of mirrors."""
    add_markers(config)
    try:
        patience()
    except UsageError as error:
        raise pytest.UsageError(f"memtype: {error.message}") from None
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(config), "memtype-recorder")
        config.pluginmanager.register(Results(config), "memtype-results")
    else:
        mirror.restore(config.workerinput.get("memtype_mirror", mirror.state()))
    if config.getoption("--offline"):
        mirror.stay_offline()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist, when it starts, of the run that it shares with the other workers."""
    node.workerinput["memtype_base"] = str(base_of(node.config))
    node.workerinput["memtype_name"] = run_name()
    node.workerinput["memtype_mirror"] = mirror.state()
    node.workerinput["memtype_variants"] = for_workers(node.config)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Print the remarks of a worker when it ends, once for all workers: it could print nothing itself."""
    trouble = getattr(node, "workeroutput", {}).get("memtype_trouble")
    if trouble is not None:
        node.config.stash[_workers_trouble] = trouble
    said = node.config.stash.setdefault(_remarked, set())
    for remark in getattr(node, "workeroutput", {}).get("memtype_remarks", ()):
        if remark not in said:
            said.add(remark)
            progress_of(node.config)(remark)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Name a file outside of pytest's root folder that was given by itself in the ids of its tests.

    They would begin with ``::``, and tests of several such files would have the same ids, which
    stand in records and name folders of logs.
    """
    root = parent.config.rootpath
    if module_path.is_relative_to(root) or not parent.session.isinitpath(module_path):
        return None
    made = pytest.Module.from_parent(parent, path=module_path, nodeid=os.path.relpath(module_path, root))
    assert isinstance(made, pytest.Module)
    return made


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test for each variant of the run."""
    if "memtype_variant" not in metafunc.fixturenames:
        return
    try:
        check_distribution(metafunc.definition)
    except UsageError as error:
        raise pytest.Collector.CollectError(error.message) from None
    tested = variants_of_test(metafunc)
    names = [each.name for each in tested]
    metafunc.parametrize("memtype_variant", tested, ids=names, indirect=True, scope="session")


# First, so that a worker of pytest-xdist says it is ready when it is.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Load the audit, which imports numpy, before any test: else the first test would take longer."""
    trouble = trouble_of(session.config)
    if trouble is not None and not hasattr(session.config, "workerinput"):
        message, status = trouble
        pytest.exit(f"memtype: {message}", returncode=status)
    if session.config.option.collectonly:
        return
    if any("guest_factory" in getattr(item, "fixturenames", ()) for item in session.items):
        importlib.import_module("pytest_memtype.guest.audited")


@pytest.hookimpl(wrapper=True)
def pytest_pycollect_makeitem() -> Generator[None, Any, Any]:
    """Report a marker that can't be used as an error of its file, before any test runs."""
    made = yield
    for item in made if isinstance(made, list) else ():
        # Other suites may have markers of these names, which mean something else.
        if isinstance(item, pytest.Function) and "guest_factory" in item.fixturenames:
            try:
                check_markers(item)
            except UsageError as error:
                raise pytest.Collector.CollectError(error.message) from None
    return made


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave a worker of pytest-xdist that can run nothing without tests, and have the controller say why."""
    trouble = trouble_of(config)
    if trouble is not None and hasattr(config, "workeroutput"):
        config.workeroutput["memtype_trouble"] = trouble
        items.clear()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Print the remarks that are left, and end with the error that kept the workers from running."""
    # Its thread may still have something to say.
    end_ahead(session.config)
    say_the_rest(session.config)
    if _workers_trouble in session.config.stash:
        message, status = session.config.stash[_workers_trouble]
        pytest.exit(f"memtype: {message}", returncode=status)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, Any, Any]:
    """Note the next test, whose guest is started while this one runs."""
    item.stash[NEXT] = nextitem
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, None, None]:
    """Skip a test whose guest isn't available, with the reason."""
    try:
        return (yield)
    except Unavailable as error:
        pytest.skip(error.message)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Fail a test with an unexpected report of the kernel, without an expected one, or with an alias."""
    guests = item.stash.get(GUESTS, None)
    if guests is None:
        return (yield)
    target = the_target(item.config)
    if target is not None and target.dry_run is not None:
        # The result of the test means nothing: the answers are made up.
        # pytest.raises() fails by an exception of its own, where the answer that it waits for isn't made up.
        with contextlib.suppress(Exception, pytest.fail.Exception):
            yield
        pytest.skip(f"dry run: {target.dry_run.operations} operations so far, and none was carried out")
    panic: GuestPanicked | None = None
    skipped: BaseException | None = None
    try:
        result = yield
    except (Unavailable, pytest.skip.Exception) as error:
        result, skipped = None, error
    except GuestPanicked as error:
        result, panic = None, error
    except (KeyboardInterrupt, SystemExit, pytest.exit.Exception):
        raise
    except BaseException:
        # Whatever it was, it may not be the test's fault.
        _not_shaken(guests)
        raise
    _not_shaken(guests)
    expected = expected_reports(item)
    wrong = complaint(guests.reports(), expected, finished=skipped is None)
    if panic is not None and (wrong or not expected):
        raise panic
    if wrong:
        pytest.fail(wrong, pytrace=False)
    if isinstance(skipped, Unavailable):
        pytest.skip(skipped.message)
    if skipped is not None:
        raise skipped
    if panic is None and not item.config.getoption("--no-audit"):
        checked = item.stash[AUDITED]
        checked += guests.audit()
        wrong = alias_complaint(checked, expected_alias(item))
        # A reproducer of a reported bug checks its aliases itself.
        if wrong and not item.get_closest_marker("bug"):
            pytest.fail(wrong, pytrace=False)
    return result


def _not_shaken(guests: GuestsOfTest) -> None:
    """Check that a test's guests ran on the memory that they were saved with.

    :param guests: The guests of the test.
    :raises HostError: a guest didn't, so that no observation in it counts.
    """
    wrong = guests.shaken()
    if wrong is not None:
        raise wrong


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach a test's records and audits to its report, and explain a failure."""
    report = yield
    if report.failed:
        item.stash[FAILED] = True
        _explain(item, call, report)
    if report.when == "teardown":
        try:
            settle(item.config)
        except (MemtypeError, OSError) as error:
            _note_trouble(item, report, error)
        # Attached to a report, they reach the controller of pytest-xdist in the order of the tests.
        vars(report)["memtype_records"] = item.stash.get(RECORDS, [])
        vars(report)["memtype_audits"] = [
            (each.milliseconds, each.trouble, each.since_boot) for each in item.stash.get(AUDITED, [])
        ]
        report.user_properties += pairs(_properties(item))
    return report


def _note_trouble(item: pytest.Item, report: pytest.TestReport, error: Exception) -> None:
    """Fail a test whose logs couldn't be kept; a failure of its own stays the reason."""
    text = f"what the test leaves can't be kept: {error}"
    if report.failed:
        report.sections.append(("memtype", text))
        return
    item.stash[FAILED] = True
    report.outcome, report.longrepr = "failed", text
    set_blame(report, Blame.HOST)


def _properties(item: pytest.Item) -> Properties:
    """The properties of a test, for programs that read the results of a run."""
    variant = variant_of(item)
    if variant is None:
        return {}
    guests = item.stash.get(GUESTS, None)
    kept = item.stash.get(FAILED, False) or item.config.getoption("--keep-logs")
    evidence = ""
    if guests is not None and kept and guests.logs.is_dir():
        evidence = below(item.config.rootpath, guests.logs)
    contexts: list[Record] = item.stash.get(CONTEXTS, [])
    records: list[Record] = item.stash.get(RECORDS, [])
    return properties(contexts, records, tested=variant.name, evidence=evidence)


def _explain(item: pytest.Item, call: pytest.CallInfo[Any], report: pytest.TestReport) -> None:
    if call.excinfo is not None and isinstance(call.excinfo.value, MemtypeError):
        # Where the test was matters; our own frames below it don't.
        frames = [entry for entry in call.excinfo.traceback if Path(entry.path) == item.path]
        where = f"{frames[-1].path}:{frames[-1].lineno + 1}: " if frames else ""
        error = call.excinfo.value
        set_blame(report, blame_for(error))
        report.longrepr = f"{where}{type(error).__name__}: {error}"
    guests = item.stash.get(GUESTS, None)
    if guests is not None and guests.guests:
        variant = variant_of(item) or Variant("", "")
        said = str(report.longrepr)
        records = guests.records(item.nodeid, variant, since=item.stash.get(SINCE, []))
        lines = machines(guests.contexts())
        lines += operations(item, records, call, said=said, last=len(guests.guests))
        evidence = below(item.config.rootpath, guests.logs)
        lines.append(f"evidence: {evidence}")
        lines += [
            f"run guest {number} again: {command.replace(str(guests.logs), evidence)}"
            for number, command in guests.rerun_commands()
            # A guest that ended has said so itself.
            if command not in said
        ]
        report.sections.append(("memtype", "\n".join(lines)))
