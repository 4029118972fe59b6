"""The pytest plugin: options, markers, fixtures. What they do is elsewhere in the package."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_memtype.distribution.system import MINIMAL, check_guest
from pytest_memtype.errors import (
    GuestPanicked,
    HostError,
    MemtypeError,
    ModuleMissing,
    Unavailable,
    UsageError,
    reason,
)
from pytest_memtype.guest.guest import Guest
from pytest_memtype.host.nearest import check_choice
from pytest_memtype.host.progress import Remark
from pytest_memtype.host.resources import cache_directory
from pytest_memtype.kernels import mirror
from pytest_memtype.kernels.sets import check as check_specs
from pytest_memtype.machine.accelerator import ACCELERATORS
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.layout import Layout
from pytest_memtype.machine.qemu_versions import age_warning
from pytest_memtype.machine.vcpu_registers import usable_qemu
from pytest_memtype.plugin.config import base_of, progress_of, run_name, run_of, say_the_rest
from pytest_memtype.plugin.markers import (
    DEFAULT_LAYOUT,
    add_markers,
    check_distribution,
    check_layout_option,
    check_markers,
    expected_alias,
    expected_reports,
    hardware_of,
    layout_of,
    named_layout,
    provokes,
    shares_guest,
)
from pytest_memtype.plugin.recorder import Recorder
from pytest_memtype.plugin.target import add_target_options, the_target
from pytest_memtype.report.record import Record
from pytest_memtype.run.alias_check import Checked, alias_complaint
from pytest_memtype.run.expected_reports import complaint
from pytest_memtype.run.folder import test_folder
from pytest_memtype.run.session import GuestKind, Session, TestGuests
from pytest_memtype.run.variants import Tested, all_tested

GuestFactory = Callable[..., Guest]

_session = pytest.StashKey[Session]()
_tested = pytest.StashKey[list[Tested]]()
_trouble = pytest.StashKey[MemtypeError]()
_workers_trouble = pytest.StashKey[tuple[str, int]]()
_failed = pytest.StashKey[bool]()
_records = pytest.StashKey[list[Record]]()
_guests = pytest.StashKey[TestGuests]()
_audited = pytest.StashKey[list[Checked]]()
_remarked = pytest.StashKey[set[str]]()
_next = pytest.StashKey[pytest.Item | None]()


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
        default=DEFAULT_LAYOUT,
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
        metavar="{clone,boot}",
        default="clone",
        help="how a fresh guest comes to be: cloned from a template, or booted (default: clone)",
    )
    group.addoption(
        "--accel",
        metavar=f"{{{','.join(ACCELERATORS)}}}",
        default="auto",
        help="what runs the guests; auto takes KVM if a timed boot is faster with it (default: auto)",
    )
    group.addoption(
        "--no-audit",
        action="store_true",
        help="don't look for conflicting mappings in all page tables after each test",
    )
    group.addoption(
        "--offline",
        action="store_true",
        help="ask no mirror: kernels are found by the last indexes and have to be in the cache",
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
    config = session.config
    try:
        _check_that_tests_are_there(config)
        check_choice("--fresh", config.getoption("--fresh"), ("clone", "boot"))
        check_choice("--accel", config.getoption("--accel"), ACCELERATORS)
        the_target(config)
        for guest in config.getoption("--guest") or ():
            check_guest(guest)
        check_specs(config.getoption("--kernel") or ())
        check_layout_option(config)
    except UsageError as error:
        raise pytest.UsageError(f"memtype: {error}") from None
    except MemtypeError as error:
        pytest.exit(f"memtype: {error.message}", returncode=error.exit_status)


def _check_that_tests_are_there(config: pytest.Config) -> None:
    # With workers of pytest-xdist pytest says that no tests ran, and not why (3.6).
    if not config.getoption("numprocesses", None) or config.getoption("pyargs"):
        return
    for argument in config.args:
        if not (config.invocation_params.dir / argument.partition("::")[0]).exists():
            raise UsageError(f"file or directory not found: {argument}")


def pytest_configure(config: pytest.Config) -> None:
    add_markers(config)
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(config), "memtype-recorder")
    else:
        mirror.restore(config.workerinput.get("memtype_mirror", mirror.state()))
    if config.getoption("--offline"):
        mirror.stay_offline()


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
    node.workerinput["memtype_mirror"] = mirror.state()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker ends, which could print nothing: what it had to say is said once for all of them."""
    trouble = getattr(node, "workeroutput", {}).get("memtype_trouble")
    if trouble is not None:
        node.config.stash[_workers_trouble] = trouble
    said = node.config.stash.setdefault(_remarked, set())
    for remark in getattr(node, "workeroutput", {}).get("memtype_remarks", ()):
        if remark not in said:
            said.add(remark)
            progress_of(node.config)(remark)


def _the_session(config: pytest.Config) -> Session:
    run = run_of(config)
    if _session not in config.stash:
        _open_session(config, run)
    return config.stash[_session]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "memtype_tested" not in metafunc.fixturenames:
        return
    try:
        check_distribution(metafunc.definition)
    except UsageError as error:
        raise pytest.Collector.CollectError(error.message) from None
    tested = _tested_by(metafunc)
    names = [each.name for each in tested]
    metafunc.parametrize("memtype_tested", tested, ids=names, indirect=True, scope="session")


# First, so that a worker of pytest-xdist says it is ready when it is.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Load what each test ends with, which imports numpy: no test shall take longer for being the first."""
    if _trouble in session.config.stash and not hasattr(session.config, "workerinput"):
        error = session.config.stash[_trouble]
        pytest.exit(f"memtype: {error.message}", returncode=_status_of(error))
    if session.config.option.collectonly:
        return
    if any("guest_factory" in getattr(item, "fixturenames", ()) for item in session.items):
        importlib.import_module("pytest_memtype.guest.audited")


@pytest.hookimpl(wrapper=True)
def pytest_pycollect_makeitem() -> Generator[None, Any, Any]:
    """A marker that can't be used is an error of its file, before any test runs."""
    made = yield
    for item in made if isinstance(made, list) else ():
        # Other suites may have markers of these names, which mean something else.
        if isinstance(item, pytest.Function) and "guest_factory" in item.fixturenames:
            try:
                check_markers(item)
            except UsageError as error:
                raise pytest.Collector.CollectError(error.message) from None
    return made


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
    """What the command line asks for, looked for once in a run.

    Where it can't be had, the run ends when its tests are collected, before the first and with one line.
    """
    if _tested not in config.stash:
        try:
            config.stash[_tested] = _look_for_tested(config)
        except MemtypeError as error:
            config.stash[_trouble] = error
            config.stash[_tested] = [Tested("none", "none")]
    return config.stash[_tested]


def _look_for_tested(config: pytest.Config) -> list[Tested]:
    target = the_target(config)
    if target is not None:
        return [Tested(target.name, target.name)]
    try:
        if not config.option.collectonly:
            # Nothing is fetched for a QEMU that can't be used.
            cache_directory()
            warning = age_warning(usable_qemu(progress=progress_of(config)))
            if warning:
                progress_of(config)(Remark(warning))
        kernels, guests = config.getoption("--kernel"), config.getoption("--guest")
        return all_tested(kernels, guests, progress=progress_of(config))
    except OSError as error:
        raise HostError(reason(error)) from error


def _status_of(error: MemtypeError) -> int:
    is_usage = isinstance(error, UsageError)
    return int(pytest.ExitCode.USAGE_ERROR) if is_usage else error.exit_status


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A worker of pytest-xdist that can run nothing has nothing to run: its end would only be a riddle."""
    if _trouble in config.stash and hasattr(config, "workeroutput"):
        error = config.stash[_trouble]
        config.workeroutput["memtype_trouble"] = error.message, _status_of(error)
        items.clear()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Say the remarks that are left, and once, with its status, what kept the workers from running."""
    say_the_rest(session.config)
    if _workers_trouble in session.config.stash:
        message, status = session.config.stash[_workers_trouble]
        pytest.exit(f"memtype: {message}", returncode=status)


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
    if target is not None and provokes(node):
        raise Unavailable("it provokes a report of the kernel, for which a target isn't ours enough")
    if memtype_tested.system == MINIMAL and node.get_closest_marker("distribution"):
        raise Unavailable("it wants a guest with a distribution, such as --guest debian:bookworm")
    system = memtype_tested.system
    default = GuestKind(memtype_tested.kernel, layout_of(node), hardware_of(node), system)
    # A target is shared by all tests anyway, and each finds it as the first did.
    share = shares_guest(node) and target is None
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
        kind = GuestKind(kernel, named_layout(layout, node), hardware, system)
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
            nothing = dry or guests.shaken() is not None
            node.stash[_records] = (
                [] if nothing else guests.records(node.nodeid, tested=memtype_tested.name, since=before)
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
    except (KeyboardInterrupt, SystemExit, pytest.exit.Exception):
        raise
    except BaseException:
        # Whatever it was: it may be none of the test's.
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
        item.stash[_audited] = checked = guests.audit()
        wrong = alias_complaint(checked, expected_alias(item))
        # A reproducer of a reported bug says by itself what there must be.
        if wrong and not item.get_closest_marker("bug"):
            pytest.fail(wrong, pytrace=False)
    return result


def _not_shaken(guests: TestGuests) -> None:
    """Check that a test's guests ran on the memory that they were saved with.

    :raises HostError: they didn't; nothing counts that was seen in them.
    """
    wrong = guests.shaken()
    if wrong is not None:
        raise wrong


def _expect_next(node: pytest.Item) -> None:
    """Have the guest of the next test started while this test runs."""
    following = node.stash.get(_next, None)
    callspec = getattr(following, "callspec", None)
    if following is None or callspec is None or shares_guest(following):
        return
    # Another fixture of that name, of the user's own, doesn't lead to our kernels.
    tested = callspec.params.get("memtype_tested")
    if tested is None or "guest" not in getattr(following, "fixturenames", ()):
        return
    session = _the_session(node.config)
    try:
        if _lacks_module(following, tested, session):
            return
        kind = GuestKind(tested.kernel, layout_of(following), hardware_of(following), tested.system)
    except MemtypeError:
        return  # It is for the next test to fail with that.
    session.expect(kind, logs=test_folder(session.run, following.nodeid) / "guest-1")


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
        lines += [
            f"run guest {number} again: {command}"
            for number, command in guests.rerun_commands()
            # A guest that ended has said so itself.
            if command not in str(report.longrepr)
        ]
        report.sections.append(("memtype", "\n".join(lines)))
