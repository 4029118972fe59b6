"""The run of ``memtype run``: the suite on real kernels, through pytest."""

from __future__ import annotations

import argparse
import glob
import os
import shlex
import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from rich.console import Console

from pytest_memtype.distribution.system import MINIMAL, check_guest, distribution
from pytest_memtype.errors import INTERRUPTED, MemtypeError, UsageError, harmless
from pytest_memtype.host import resources
from pytest_memtype.host.nearest import check_choice, did_you_mean
from pytest_memtype.host.progress import Remark, is_log, shown
from pytest_memtype.kernels import mirror
from pytest_memtype.kernels.ready import ready
from pytest_memtype.kernels.sets import check
from pytest_memtype.machine.accelerator import ACCELERATORS
from pytest_memtype.machine.layout_file import layout_folders, load_layout
from pytest_memtype.machine.qemu_versions import age_warning
from pytest_memtype.machine.vcpu_registers import usable_qemu
from pytest_memtype.run.blame import Blame, blame_of
from pytest_memtype.run.log_lines import LogLines
from pytest_memtype.run.options import DEFAULT_LAYOUT, LOCAL, OPTIONS, OptionParser
from pytest_memtype.run.own_tests import has_own_tests
from pytest_memtype.run.qualification import chosen
from pytest_memtype.run.variants import Resolved, Variant, all_variants
from pytest_memtype.target import QEMU

# Options of pytest's whose value is an expression, though a file or folder may be called so.
_EXPRESSIONS: Final = ("-k", "-m")
_OWN: Final = "the tests of this folder are run; memtype run --suite runs those of the package"
# Pytest's own values, by which it finds the tests of the suite.
_SUITES_NAMES: Final = ("python_files=test_*.py", "python_classes=Test", "python_functions=test")
# By these a user asks for colours where no terminal is.
_WANTS_COLOUR: Final = ("FORCE_COLOR", "PY_COLORS")


class Failures:
    """A plugin for pytest that tells kinds of failures apart.

    :ivar failures: Number of failures because the host or a guest couldn't be used: no fault in memory types.
    :ivar others: Number of other failures.
    :ivar broken: Did some tests fail to be collected?
    :ivar interrupted: Was the run interrupted by Ctrl-C?
    """

    def __init__(self) -> None:
        self.failures = 0
        self.others = 0
        self.broken = False
        self.interrupted = False

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.broken = self.broken or report.failed

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        # pytest.exit() comes here, too, and so does the Interrupted of pytest-xdist, which is a
        # KeyboardInterrupt, when it stops at a failure (-x).
        self.interrupted = self.interrupted or type(excinfo.value) is KeyboardInterrupt

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            trouble = blame_of(report) is not Blame.TEST
            self.failures += trouble
            self.others += not trouble


class Workers:
    """A plugin for pytest that has pytest-xdist start workers, where it isn't switched off (``-p no:xdist``).

    :param number: Their number; 0 runs the tests in this process.
    """

    # Not -n on the command line: pytest knows no such option where xdist is off, as its settings may say.
    def __init__(self, number: int) -> None:
        self._number = number

    # In front of xdist's own, which reads the option.
    @pytest.hookimpl(wrapper=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> Generator[None, Any, Any]:
        if config.pluginmanager.has_plugin("xdist"):
            config.option.numprocesses = self._number
        return (yield)


def run_suite(
    arguments: list[str], *, plugins: Sequence[object] = (), or_own: bool = False, least: int = 1
) -> int:
    """Run pytest on the project's testcases, or on the tests that ``arguments`` name.

    Kernels are made ready first, with their progress shown: pytest's workers can't show any.

    :param arguments: Command line for pytest; ``--suite`` is ours.
    :param plugins: Further plugins for pytest.
    :param or_own: Where no tests are named, nor ``--suite``, run those of the current folder if it has any.
    :param least: The fewest kernels that the caller has a use for. A target's isn't counted.
    :returns: 0 all as expected, 1 a verdict differs, 2 usage, 3 the host or a guest could not be used.
    :raises MemtypeError: a kernel can't be had.
    :raises UsageError: there are fewer kernels than ``least``; nothing has been fetched by then.
    :raises KeyboardInterrupt: pytest was interrupted, and has said so.
    """
    known, others = _read(arguments)
    named = _named_tests(others)
    own = or_own and not known.suite and not named and has_own_tests(Path.cwd())
    if own:
        named = [Path.cwd()]
    if known.layout != DEFAULT_LAYOUT:
        load_layout(known.layout, layout_folders(named or [resources.testcases()]))
    if known.offline:
        mirror.stay_offline()
    # A cluster's workers look for QEMU and kernels themselves; the local one's are on this host.
    # To list tests takes neither QEMU nor a kernel.
    here = known.target == QEMU and known.scheduler in (None, LOCAL) and not known.collect_only
    resolved = [_made_ready(known, least=least)] if here else []
    if known.target == QEMU and not here and least > 1:
        with shown(Console(stderr=True)) as progress:
            _require(least, all_variants(known.kernel, known.guest, progress=progress))
    command = _command(arguments, known, own=own, named=bool(named))
    failures = Failures()
    if known.numprocesses is None and not known.collect_only:
        # A target is one machine, and a cluster has workers of its own.
        alone = known.target != QEMU or known.scheduler is not None
        plugins = [*plugins, Workers(0 if alone else len(os.sched_getaffinity(0)))]
    if is_log(sys.stdout):
        plugins = [*plugins, LogLines()]
        if not any(os.environ.get(name) for name in _WANTS_COLOUR):
            # Before the caller's, who may say otherwise.
            command.insert(0, "--color=no")
    status = pytest.main(command, plugins=[failures, *resolved, *plugins])
    if failures.interrupted:
        raise KeyboardInterrupt
    if status == pytest.ExitCode.USAGE_ERROR:
        _say_what_was_meant(others)
    return _exit_status(status, failures)


def _read(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options that are ours or needed before pytest starts, and the other arguments.

    :param arguments: The command line.
    :raises UsageError: one of ours has a value that it can't have. Nothing has been fetched by then.
    """
    parser = OptionParser()
    parser.add_argument("-n", "--numprocesses")
    parser.add_argument("--collect-only", "--co", action="store_true")
    parser.add_argument("--suite", action="store_true")
    known, others = parser.parse_known_args(arguments)
    check_choice("--accel", known.accel, ACCELERATORS)
    check(known.kernel or ())
    for guest in known.guest or ():
        check_guest(guest)
    return known, others


def _made_ready(known: argparse.Namespace, *, least: int) -> Resolved:
    """Have QEMU, kernels, distributions and accelerator looked at and made ready, with progress shown.

    :param known: The options that are ours.
    :param least: The fewest kernels that there have to be.
    :returns: What the specs of the command line mean.
    """
    with shown(Console(stderr=True)) as progress:
        # Before anything is fetched.
        warning = age_warning(usable_qemu(progress=progress))
        if warning:
            progress(Remark(warning))
        tested = all_variants(known.kernel, known.guest, progress=progress)
        _require(least, tested)
    bundles = {each.spec: each.made for each in ready(list(dict.fromkeys(each.kernel for each in tested)))}
    made = next(iter(bundles.values()))
    assert made is not None
    with shown(Console(stderr=True)) as progress:
        for each in tested:
            runs = bundles[each.kernel]
            if each.system != MINIMAL and runs is not None:
                distribution(each.system, runs, progress=progress)
        chosen(made, known.accel, progress=progress)
    return Resolved(tuple(known.kernel or ()), tuple(known.guest or ()), tuple(tested))


def _require(least: int, tested: Sequence[Variant]) -> None:
    if len(tested) < least:
        only = ", ".join(each.tested for each in tested)
        raise UsageError(f"{only} is the only kernel; name at least {least}, each with --kernel")


def _command(arguments: Sequence[str], known: argparse.Namespace, *, own: bool, named: bool) -> list[str]:
    """Pytest's command line.

    :param arguments: Ours.
    :param known: The options among them that are ours, or needed before pytest starts.
    :param own: Whether the tests of the current folder are run, where none are named.
    :param named: Whether tests are named, or these are.
    """
    command = [each for each in arguments if each != "--suite"]
    if known.memtype_dir is None:
        command += ["--memtype-dir", str(Path.cwd() / ".memtype")]
    # Which of the arguments name tests only pytest can tell. It looks at testpaths when none does, and
    # only when it runs in its root folder.
    command += ["--rootdir", str(Path.cwd())]
    if own:
        with shown(Console(stderr=True)) as progress:
            progress(Remark(_OWN))
    else:
        # It is a list of words, as a shell reads them, and each is a pattern.
        command += ["-o", f"testpaths={shlex.quote(glob.escape(str(resources.testcases())))}"]
    if not named:
        # A project's own settings may have other names for its tests, which aren't those of the suite.
        command += [word for each in _SUITES_NAMES for word in ("-o", each)]
    # The plugin is imported already: by this very module.
    command += ["-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"]
    return command


def _exit_status(status: int, failures: Failures) -> int:
    """Our exit status for one of pytest's: what ``run_suite()`` returns."""
    if status == pytest.ExitCode.INTERRUPTED:
        if failures.broken:
            return UsageError.exit_status
        if failures.failures or failures.others:
            # It has stopped at a failure (-x).
            status = pytest.ExitCode.TESTS_FAILED
    if status == pytest.ExitCode.TESTS_FAILED and failures.failures and not failures.others:
        return MemtypeError.exit_status
    statuses: dict[int, int] = {
        pytest.ExitCode.OK: 0,
        pytest.ExitCode.TESTS_FAILED: 1,
        pytest.ExitCode.INTERRUPTED: INTERRUPTED,
        pytest.ExitCode.USAGE_ERROR: 2,
        pytest.ExitCode.NO_TESTS_COLLECTED: 2,
    }
    # pytest.exit() of a test or a conftest.py may give any number.
    return statuses.get(status, MemtypeError.exit_status)


def _say_what_was_meant(arguments: Sequence[str]) -> None:
    """Print a line for each option that nobody knows and that resembles one of ours; pytest has refused it.

    :param arguments: Arguments for pytest, without the options of the table.
    """
    known = [option.name for option in OPTIONS]
    for argument in arguments:
        name = argument.partition("=")[0]
        meant = did_you_mean(name, known) if name.startswith("--") else ""
        if meant:
            print(f"memtype: {harmless(name)}{meant}", file=sys.stderr)


def _named_tests(arguments: Sequence[str]) -> list[Path]:
    """The files and folders among arguments for pytest, as far as their form tells.

    A word behind an option may be its value, such as the report of an earlier run behind ``--junitxml``: a
    file counts there if it may be one of tests.

    :param arguments: Arguments for pytest, without the options of the table.
    :raises UsageError: a file of tests isn't there. An argument that may be an option's is left to pytest.
    """
    named = []
    for before, argument in zip(("", *arguments), arguments, strict=False):
        path = Path(argument.partition("::")[0])
        if argument.startswith("-") or before in _EXPRESSIONS:
            continue
        if before.startswith("-") and path.suffix != ".py" and not path.is_dir():
            continue
        if path.exists():
            if not (path.is_file() or path.is_dir()):
                raise UsageError(f"{path}: is neither a file nor a folder; name tests")
            named.append(path)
        elif path.suffix == ".py" and not before.startswith("-"):
            raise UsageError(f"{path}: no such file{did_you_mean(path.name, _beside(path))}")
    return named


def _beside(path: Path) -> list[str]:
    folder = path.parent
    return [each.name for each in folder.glob("*.py")] if folder.is_dir() else []
