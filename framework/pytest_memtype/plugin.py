"""The pytest plugin: options, markers, fixtures. What they do is elsewhere in the package."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_memtype.alias_check import Checked, ExpectedAlias, alias_complaint
from pytest_memtype.distribution.system import MINIMAL, check_guest
from pytest_memtype.errors import GuestPanicked, MemtypeError, ModuleMissing, Unavailable, UsageError
from pytest_memtype.expectation import complaint
from pytest_memtype.guest.guest import Guest
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.layout import Layout
from pytest_memtype.machine.layout_file import folders_of_tests, load_layout
from pytest_memtype.recorder import Recorder
from pytest_memtype.report.record import Record
from pytest_memtype.run_config import base_of, progress_of, run_name, run_of
from pytest_memtype.run_directory import test_folder
from pytest_memtype.session import GuestKind, Session, TestGuests
from pytest_memtype.target_options import add_target_options, the_target
from pytest_memtype.tested import Tested, all_tested

pytest_plugins = ["pytest_memtype.bug_plugin"]

GuestFactory = Callable[..., Guest]

_session = pytest.StashKey[Session]()
_tested = pytest.StashKey[list[Tested]]()
_failed = pytest.StashKey[bool]()
_records = pytest.StashKey[list[Record]]()
_guests = pytest.StashKey[TestGuests]()
_audited = pytest.StashKey[list[Checked]]()
_next = pytest.StashKey[pytest.Item | None]()

_PROVOKING = ("expect_oops", "bug")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("memtype", "memory type tests in QEMU guests")
    group.addoption(
        "--kernel",
        action="append",
        metavar="SPEC",
        help="kernel to test, such as debian:bookworm, debian:6.1, debian:6.1.0-50-cloud-amd64, tree:PATH, "
        "image:BZIMAGE,build=PATH, host or set:lts; "
        "may be given several times (default: the set 'default')",
    )
    group.addoption(
        "--guest",
        action="append",
        metavar="NAME",
        help="guest to test in: minimal, debian:bookworm or debian:trixie, which have Debian's own kernel "
        "unless --kernel names another; may be given several times (default: minimal)",
    )
    group.addoption(
        "--layout",
        default="firmware",
        metavar="NAME",
        help="MTRR layout for tests that choose none (default: firmware)",
    )
    group.addoption(
        "--shared-guest",
        action="store_true",
        help="one guest per test module instead of a fresh one for each test",
    )
    group.addoption(
        "--fresh",
        choices=("clone", "boot"),
        default="clone",
        help="how a fresh guest comes to be: cloned from a template, or booted (default: clone)",
    )
    group.addoption(
        "--accel",
        choices=("auto", "tcg", "kvm"),
        default="auto",
        help="what runs the guests; auto takes KVM if a timed boot is faster with it (default: auto)",
    )
    group.addoption(
        "--no-audit",
        action="store_true",
        help="don't look for conflicting mappings in all page tables after each test",
    )
    add_target_options(group)
    group.addoption("--keep-logs", action="store_true", help="keep the logs of tests that pass, too")
    group.addoption(
        "--memtype-dir",
        type=Path,
        metavar="DIR",
        help="where records and logs go (default: .memtype in pytest's root folder)",
    )


def pytest_sessionstart(session: pytest.Session) -> None:
    # Once and at once, whatever is wrong with it, and not for each module of tests.
    try:
        the_target(session.config)
        for guest in session.config.getoption("--guest") or ():
            check_guest(guest)
    except MemtypeError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "layout(layout): MTRR layout of the test's guest: a name or a Layout")
    config.addinivalue_line(
        "markers",
        "hardware(cpu=, memory=, cpus=, cmdline=, firmware=, smm=, display=): hardware of the test's guest",
    )
    config.addinivalue_line(
        "markers", "expect_oops(match): the kernel must report something the regular expression is found in"
    )
    config.addinivalue_line(
        "markers",
        "expect_alias(before=): the test leaves a page with two conflicting types, on kernels before a "
        "version such as (6, 16)",
    )
    config.addinivalue_line(
        "markers",
        "distribution(guest): the test wants a guest that runs a distribution; the one that is named, if "
        "any, unless --guest names one",
    )
    config.addinivalue_line("markers", "shared_guest: the tests of the module share one guest")
    config.addinivalue_line(
        "markers",
        "needs_module: the test does nothing without the module, so no guest is started then",
    )
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(config), "memtype-recorder")


def _open_session(config: pytest.Config, run: Path) -> None:
    session = Session(
        run,
        progress=progress_of(config),
        fresh=config.getoption("--fresh"),
        accelerator=config.getoption("--accel"),
        target=the_target(config),
    )
    config.add_cleanup(session.close)
    config.stash[_session] = session


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """pytest-xdist starts a worker: all workers of a run share its folder."""
    node.workerinput["memtype_base"] = str(base_of(node.config))
    node.workerinput["memtype_name"] = run_name()


def _the_session(config: pytest.Config) -> Session:
    run = run_of(config)
    if _session not in config.stash:
        _open_session(config, run)
    return config.stash[_session]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "memtype_tested" not in metafunc.fixturenames:
        return
    tested = _tested_by(metafunc)
    names = [each.name for each in tested]
    metafunc.parametrize("memtype_tested", tested, ids=names, indirect=True, scope="session")


def _tested_by(metafunc: pytest.Metafunc) -> list[Tested]:
    """What a test tests: what the user asked for, or the distribution of its marker where he wants none."""
    tested = _all_tested(metafunc.config)
    marker = metafunc.definition.get_closest_marker("distribution")
    if marker is None or not marker.args or the_target(metafunc.config) is not None:
        return tested
    if any(each.system != MINIMAL for each in tested):
        return tested
    return all_tested(None, marker.args, progress=progress_of(metafunc.config))


def _all_tested(config: pytest.Config) -> list[Tested]:
    """What the command line asks for."""
    if _tested not in config.stash:
        try:
            target = the_target(config)
            config.stash[_tested] = (
                [Tested(target.name, target.name)]
                if target is not None
                else all_tested(
                    config.getoption("--kernel"), config.getoption("--guest"), progress=progress_of(config)
                )
            )
        except MemtypeError as error:
            raise pytest.UsageError(str(error)) from None
    return config.stash[_tested]


@pytest.fixture(scope="session")
def memtype_tested(request: pytest.FixtureRequest) -> Tested:
    """The kernel and the guest of the test."""
    assert isinstance(request.param, Tested)
    return request.param


@pytest.fixture(scope="session")
def memtype_kernel(memtype_tested: Tested) -> str:
    """The kernel of the test: one of those given with ``--kernel``, or its guest's own."""
    return memtype_tested.kernel


@pytest.fixture(scope="session")
def memtype_kernel_version(request: pytest.FixtureRequest, memtype_kernel: str) -> str:
    """The version of that kernel's package, ``local`` for one that was built on this host."""
    return _the_session(request.config).about(memtype_kernel)["kernel_version"]


@pytest.fixture(scope="module")
def _module_guests(request: pytest.FixtureRequest) -> Iterator[TestGuests]:
    session = _the_session(request.config)
    # Workers of pytest-xdist may share a module, but not a guest.
    worker = getattr(request.config, "workerinput", {}).get("workerid", "")
    guests = TestGuests(session, test_folder(session.run, f"{request.node.nodeid}-{worker}"))
    try:
        yield guests
    finally:
        failed = request.node.stash.get(_failed, False)
        guests.close(keep_logs=failed or request.config.getoption("--keep-logs"))


@pytest.fixture
def guest_factory(
    request: pytest.FixtureRequest, memtype_tested: Tested, _module_guests: TestGuests
) -> Iterator[GuestFactory]:
    """Starts guests: ``guest_factory(kernel=, layout=, hardware=)``.

    What isn't given comes from the test's markers, then from the command line. The guests end
    with the test.
    """
    config, node = request.config, request.node
    target = the_target(config)
    if target is not None and any(node.get_closest_marker(name) for name in _PROVOKING):
        raise Unavailable("it provokes a report of the kernel, for which a target isn't ours enough")
    if memtype_tested.system == MINIMAL and node.get_closest_marker("distribution"):
        raise Unavailable("it wants a guest with a distribution, such as --guest debian:bookworm")
    system = memtype_tested.system
    default = GuestKind(memtype_tested.kernel, _layout(config, node), _hardware(node), system)
    # A target is shared by all tests anyway, and each finds it as the first did.
    share = _shares(node) and target is None
    dry = target is not None and target.dry_run is not None
    session = _the_session(config)
    if _lacks_module(node, memtype_tested, session):
        raise ModuleMissing("the test")
    own = TestGuests(session, test_folder(session.run, node.nodeid))
    guests = _module_guests if share else own
    node.stash[_guests] = guests
    before = guests.positions()
    guests.reset()

    def start(
        *,
        kernel: str = default.kernel,
        layout: Layout | str = default.layout,
        hardware: Hardware = default.hardware,
    ) -> Guest:
        kind = GuestKind(kernel, _named(layout, node), hardware, system)
        if share:
            return guests.shared(kind)
        guest = guests.start(kind)
        _expect_next(node)
        return guest

    try:
        yield start
    finally:
        failed = node.stash.get(_failed, False)
        try:
            # Answers that were made up are no records.
            node.stash[_records] = (
                [] if dry else guests.records(node.nodeid, tested=memtype_tested.name, since=before)
            )
            if failed:
                node.getparent(pytest.Module).stash[_failed] = True
                guests.leave_evidence(guests.logs, node.stash.get(_records, []))
        finally:
            own.close(keep_logs=failed or config.getoption("--keep-logs"))


@pytest.fixture
def guest(guest_factory: GuestFactory) -> Guest:
    """A fresh guest for this test, on the kernel and layout of the run."""
    return guest_factory()


def _lacks_module(node: pytest.Item, tested: Tested, session: Session) -> bool:
    # Tests find out by themselves. What the marker saves is a template for each of their layouts.
    return bool(
        node.get_closest_marker("needs_module")
        and session.target is None
        and session.bundle(tested.kernel).module is None
    )


def _shares(node: pytest.Item) -> bool:
    # A kernel gives many of its warnings once a boot, so a test that wants one needs a boot of its own.
    # A bug leaves its traces in the kernel.
    if node.get_closest_marker("expect_oops") or node.get_closest_marker("bug"):
        return False
    return bool(node.config.getoption("--shared-guest") or node.get_closest_marker("shared_guest"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, Any, Any]:
    item.stash[_next] = nextitem
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, None, None]:
    try:
        return (yield)
    except Unavailable as error:
        pytest.skip(error.message)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """A report of the kernel fails the test that it doesn't expect, and so does one that doesn't come."""
    guests = item.stash.get(_guests, None)
    if guests is None:
        return (yield)
    target = the_target(item.config)
    if target is not None and target.dry_run is not None:
        # What it would make of the answers says nothing: they are made up.
        with contextlib.suppress(Exception):
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
    expected = _expected_reports(item)
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
        item.stash[_audited] = checked = guests.audit()
        wrong = alias_complaint(checked, _expected_alias(item))
        # A reproducer of a reported bug says by itself what there must be.
        if wrong and not item.get_closest_marker("bug"):
            pytest.fail(wrong, pytrace=False)
    return result


def _expected_alias(item: pytest.Item) -> ExpectedAlias | None:
    marker = item.get_closest_marker("expect_alias")
    if marker is None:
        return None
    try:
        return ExpectedAlias(*marker.args, **marker.kwargs)
    except (TypeError, ValueError):
        raise UsageError(
            f"{item.nodeid}: expect_alias takes before=, a kernel version such as (6, 16)"
        ) from None


def _expected_reports(item: pytest.Item) -> list[str]:
    expected = []
    for marker in item.iter_markers("expect_oops"):
        try:
            match = marker.kwargs["match"] if marker.kwargs else marker.args[0]
            re.compile(match)
        except (IndexError, KeyError, TypeError, re.error):
            raise UsageError(f"{item.nodeid}: expect_oops wants match=, a regular expression") from None
        expected.append(match)
    return expected


def _expect_next(node: pytest.Item) -> None:
    """Have the guest of the next test started while this test runs."""
    following = node.stash.get(_next, None)
    callspec = getattr(following, "callspec", None)
    if following is None or callspec is None or _shares(following):
        return
    # Another fixture of that name, of the user's own, doesn't lead to our kernels.
    tested = callspec.params.get("memtype_tested")
    if tested is None or "guest" not in getattr(following, "fixturenames", ()):
        return
    session = _the_session(node.config)
    try:
        if _lacks_module(following, tested, session):
            return
        kind = GuestKind(tested.kernel, _layout(node.config, following), _hardware(following), tested.system)
    except MemtypeError:
        return  # It is for the next test to fail with that.
    session.expect(kind, logs=test_folder(session.run, following.nodeid) / "guest-1")


def _layout(config: pytest.Config, node: pytest.Item) -> Layout:
    marker = node.get_closest_marker("layout")
    if marker is None:
        return _named(config.getoption("--layout"), node)
    if len(marker.args) != 1 or marker.kwargs:
        raise UsageError(f"{node.nodeid}: the marker layout takes one argument, a name or a Layout")
    return _named(marker.args[0], node)


def _named(layout: Layout | str, node: pytest.Item) -> Layout:
    if isinstance(layout, Layout):
        return layout
    return load_layout(layout, folders_of_tests(node.path.parent))


def _hardware(node: pytest.Item) -> Hardware:
    marker = node.get_closest_marker("hardware")
    if marker is None:
        return Hardware()
    try:
        return Hardware(*marker.args, **marker.kwargs)
    except TypeError as error:
        raise UsageError(f"{node.nodeid}: marker hardware: {error}") from None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[_failed] = True
        _explain(item, call, report)
    if report.when == "teardown":
        # Attached to a report they reach the controller of pytest-xdist in the order of the tests.
        vars(report)["memtype_records"] = item.stash.get(_records, [])
        vars(report)["memtype_audits"] = [
            (each.milliseconds, each.trouble, each.since_boot) for each in item.stash.get(_audited, [])
        ]
    return report


def _explain(item: pytest.Item, call: pytest.CallInfo[Any], report: pytest.TestReport) -> None:
    if call.excinfo is not None and isinstance(call.excinfo.value, MemtypeError):
        # Where the test was matters; our own frames below it don't.
        frames = [entry for entry in call.excinfo.traceback if Path(entry.path) == item.path]
        where = f"{frames[-1].path}:{frames[-1].lineno + 1}: " if frames else ""
        error = call.excinfo.value
        vars(report)["memtype_trouble"] = error.exit_status == MemtypeError.exit_status
        report.longrepr = f"{where}{type(error).__name__}: {error}"
    guests = item.stash.get(_guests, None)
    if guests is not None and guests.guests:
        lines = [f"logs: {guests.logs}"]
        lines += [f"run guest {number} again: {command}" for number, command in guests.rerun_commands()]
        report.sections.append(("memtype", "\n".join(lines)))
