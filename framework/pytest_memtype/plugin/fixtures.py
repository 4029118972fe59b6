"""The fixtures of the pytest plugin: guests for tests, and the kernel that a test runs on."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator

import pytest

from pytest_memtype.distribution.system import MINIMAL
from pytest_memtype.errors import (
    MemtypeError,
    ModuleMissing,
    Unavailable,
    UsageError,
)
from pytest_memtype.guest.guest import Guest
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.layout import Layout
from pytest_memtype.plugin.markers import (
    hardware_of,
    layout_of,
    modules_of,
    named_layout,
    needed_options,
    provokes,
    shares_guest,
)
from pytest_memtype.plugin.session import session_of, variant_of
from pytest_memtype.report.record import Record
from pytest_memtype.run.alias_check import Checked
from pytest_memtype.run.folder import shared_guests_folder, test_folder
from pytest_memtype.run.session import GuestsOfTest, GuestSpec, Session
from pytest_memtype.run.variants import Variant

GuestFactory = Callable[..., Guest]

FAILED = pytest.StashKey[bool]()
"""Did the test fail? Of a module: did one of its tests?"""

RECORDS = pytest.StashKey[list[Record]]()
SINCE = pytest.StashKey[list[int]]()
"""Number of each guest's journal entries before the test."""

CONTEXTS = pytest.StashKey[list[Record]]()
"""The facts of the guests that were the test's own."""

# How often the shared guests of a module were set up: pytest comes back to a module for the next kernel.
_TIMES = pytest.StashKey[int]()

GUESTS = pytest.StashKey[GuestsOfTest]()
AUDITED = pytest.StashKey[list[Checked]]()
"""What the audits found, at the end of the test and before each kernel's end by kexec."""

NEXT = pytest.StashKey[pytest.Item | None]()

_LATER = pytest.StashKey[list[Callable[[], None]]]()


def settle(config: pytest.Config) -> None:
    """Keep or remove what tests have left, once it is known whether they failed.

    When the fixtures here end, those of a user's that stand on them have ended, and may have failed: pytest
    says so in the report that it makes afterwards.

    :param config: The configuration of this process.
    :raises MemtypeError: what is to be kept can't be written. The rest is done all the same.
    :raises OSError: likewise.
    """
    later = config.stash.get(_LATER, [])
    # It calls the last first.
    with contextlib.ExitStack() as works:
        while later:
            works.callback(later.pop())


def _settle_at_last(config: pytest.Config) -> None:
    """After Ctrl-C no report is made, and there is nobody left to be told of an error."""
    with contextlib.suppress(MemtypeError, OSError):
        settle(config)


def _settle_later(config: pytest.Config, work: Callable[[], None]) -> None:
    if _LATER not in config.stash:
        config.stash[_LATER] = []
        config.add_cleanup(functools.partial(_settle_at_last, config))
    config.stash[_LATER].append(work)


@pytest.fixture(scope="session")
def memtype_variant(request: pytest.FixtureRequest) -> Variant:
    """The kernel and the guest of the test."""
    if not hasattr(request, "param"):
        # By request.getfixturevalue(), of which pytest knows nothing when it makes a test for each kernel.
        raise UsageError(
            "a test that asks for its guest by getfixturevalue() is made for no kernel; name guest_factory "
            "among its arguments, too"
        )
    assert isinstance(request.param, Variant)
    return request.param


@pytest.fixture(scope="session")
def memtype_kernel(memtype_variant: Variant) -> str:
    """The kernel of the test: one of those given with ``--kernel``, or its guest's own."""
    return memtype_variant.kernel


@pytest.fixture(scope="session")
def memtype_kernel_version(request: pytest.FixtureRequest, memtype_kernel: str) -> str:
    """The version of the test's kernel: its package's, or its source's; ``target`` for a target's."""
    return session_of(request.config).about(memtype_kernel)["kernel_version"]


@pytest.fixture(scope="module")
def _module_guests(request: pytest.FixtureRequest) -> Iterator[GuestsOfTest]:
    session = session_of(request.config)
    worker = getattr(request.config, "workerinput", {}).get("workerid", "")
    number = request.node.stash[_TIMES] = request.node.stash.get(_TIMES, 0) + 1
    if number > 1:
        worker += f"-{number}"
    guests = GuestsOfTest(session, shared_guests_folder(session.run, request.node.nodeid, worker))
    try:
        yield guests
    finally:
        _settle_later(request.config, functools.partial(_forget, guests, request))
        guests.end()


def _forget(guests: GuestsOfTest, request: pytest.FixtureRequest) -> None:
    failed = request.node.stash.get(FAILED, False)
    guests.forget(keep_logs=failed or _keeps_logs(request.config))


@pytest.fixture
def guest_factory(
    request: pytest.FixtureRequest, memtype_variant: Variant, _module_guests: GuestsOfTest
) -> Iterator[GuestFactory]:
    """A function that starts guests: ``guest_factory(kernel=, layout=, hardware=)``.

    Arguments that aren't given come from the test's markers, then from the command line. The guests end
    with the test.
    """
    config, node = request.config, request.node
    session = session_of(config)
    _check_guest(node, memtype_variant, session)
    target = session.target
    system = memtype_variant.system
    default = _kind(node, memtype_variant)
    modules = modules_of(node)
    # A target is shared by all tests anyway, and each finds it as the first did.
    share = shares_guest(node) and target is None
    dry = target is not None and target.dry_run is not None
    own = GuestsOfTest(session, test_folder(session.run, node.nodeid))
    guests = _module_guests if share else own
    node.stash[GUESTS] = guests
    audited = node.stash[AUDITED] = []
    before = node.stash[SINCE] = guests.positions()
    guests.reset()

    def end_kernel(guest: Guest) -> None:
        audited.extend(guests.end_kernel(guest, test=node.nodeid, audited=not config.getoption("--no-audit")))

    def start(
        *,
        kernel: str = default.kernel,
        layout: Layout | str = default.layout,
        hardware: Hardware = default.hardware,
    ) -> Guest:
        kind = GuestSpec(kernel, named_layout(layout, node), hardware, system, default.modules)
        guest = guests.shared(kind) if share else guests.start(kind)
        guest.user_module = functools.partial(session.user_module, folder=node.path.parent, kernel=kernel)
        guest.before_kexec, guest.after_kexec = end_kernel, guests.begin_again
        for path, parameters in modules:
            guest.load(path, parameters)
        if not share:
            _expect_next(node)
        return guest

    try:
        yield start
    finally:

        def leave() -> None:
            if node.stash.get(FAILED, False):
                node.getparent(pytest.Module).stash[FAILED] = True
                guests.leave_evidence(guests.logs, node.stash.get(RECORDS, []))

        _settle_later(config, leave)
        _settle_later(config, functools.partial(_forget, own, request))
        try:
            guests.count(node.nodeid)
            # Answers that were made up are no records.
            shaken = guests.shaken()
            nothing = dry or shaken is not None
            node.stash[RECORDS] = (
                [] if nothing else guests.records(node.nodeid, memtype_variant, since=before)
            )
            node.stash[CONTEXTS] = [] if nothing else own.contexts()
        finally:
            own.end()
    if shaken is not None and not node.stash.get(FAILED, False):
        # It was changed after the test had ended well, and nothing counts that was seen in it.
        raise shaken


@pytest.fixture
def guest(guest_factory: GuestFactory) -> Guest:
    """A fresh guest for this test, on the kernel and layout of the run."""
    return guest_factory()


def _keeps_logs(config: pytest.Config) -> bool:
    """Whether the logs of tests that pass stay: for the user, or for a cluster's worker, which takes them."""
    workerinput = getattr(config, "workerinput", {})
    return bool(config.getoption("--keep-logs") or workerinput.get("memtype_keep_logs"))


def _kind(node: pytest.Item, tested: Variant) -> GuestSpec:
    """The kind of guest that a test's markers and the command line ask for."""
    modules = tuple((path, node.path.parent) for path, _ in modules_of(node))
    return GuestSpec(tested.kernel, layout_of(node), hardware_of(node), tested.system, modules)


def _check_guest(node: pytest.Item, tested: Variant, session: Session) -> None:
    """Check that the guest and its kernel are what the test's markers say that it needs.

    :param node: The test.
    :param tested: The kernel and the guest of the test.
    :param session: The session.
    :raises Unavailable: it has not.
    """
    if session.target is not None and provokes(node):
        raise Unavailable("it provokes a report of the kernel, for which a target isn't ours enough")
    if tested.system == MINIMAL and node.get_closest_marker("distribution"):
        raise Unavailable("it wants a guest with a distribution, such as --guest debian:bookworm")
    # Tests find out by themselves. The marker saves making a template for each of their layouts.
    if (
        node.get_closest_marker("needs_module")
        and session.target is None
        and session.bundle(tested.kernel).module is None
    ):
        raise ModuleMissing("the test")
    session.check_options(tested.kernel, needed_options(node))


def _expect_next(node: pytest.Item) -> None:
    """Have the guest of the next test started while this test runs."""
    following = node.stash.get(NEXT, None)
    # A fixture of that name that the user has written doesn't lead to our kernels.
    tested = None if following is None else variant_of(following)
    if following is None or tested is None or shares_guest(following):
        return
    if "guest" not in getattr(following, "fixturenames", ()) or _is_skipped(following):
        return
    session = session_of(node.config)
    try:
        _check_guest(following, tested, session)
        kind = _kind(following, tested)
        session.expect(kind, logs=test_folder(session.run, following.nodeid) / "guest-1")
    except MemtypeError:
        return  # The next test will fail with that, or be skipped.


def _is_skipped(node: pytest.Item) -> bool:
    """Whether a marker of pytest's keeps a test from running; conditions in text aren't looked at."""
    conditions = [each for mark in node.iter_markers("skipif") for each in mark.args]
    return (
        any(True for _ in node.iter_markers("skip"))
        or any(bool(each) for each in conditions if not isinstance(each, str))
        or any(mark.kwargs.get("run") is False and not mark.args for mark in node.iter_markers("xfail"))
    )
