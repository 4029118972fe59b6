"""Facts of a run that several parts of the pytest plugin need: its folder, its name, its progress."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from pytest_memtype.errors import HostError, MemtypeError, UsageError
from pytest_memtype.host.progress import Remark, say_once
from pytest_memtype.run.folder import hold, new_run

resumed_run = pytest.StashKey[Path]()
"""The folder of the run that ``--resume`` names, without links."""

_run_directory = pytest.StashKey[Path]()
_NAME_ANOTHER: Final = "name another with --memtype-dir"
_later = pytest.StashKey[list[Remark]]()


def run_of(config: pytest.Config) -> Path:
    """The run's folder; made when the first test needs it, so that other suites leave nothing."""
    if _run_directory not in config.stash:
        worker = getattr(config, "workerinput", None)
        if worker is not None:
            base, name = Path(worker["memtype_base"]), worker["memtype_name"]
        else:
            base, name = base_of(config), run_name()
        try:
            made = new_run(base, name, resumed=config.stash.get(resumed_run, None))
            config.add_cleanup(functools.partial(os.close, hold(made)))
            config.stash[_run_directory] = made
        except OSError as error:
            raise HostError(f"{_no_folder(base)} ({error.strerror}); {_NAME_ANOTHER}") from None
    return config.stash[_run_directory]


def check_base(config: pytest.Config) -> None:
    """Check, before any test, that the folder of all runs can be one; it isn't made yet.

    :param config: The configuration of pytest.
    :raises UsageError: it can't.
    """
    base = base_of(config)
    there = next(each for each in (base, *base.absolute().parents) if os.path.lexists(each))
    if not there.is_dir():
        raise UsageError(f"{_no_folder(base)} ({there} is no folder); {_NAME_ANOTHER}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"{_no_folder(base)} ({there} isn't yours to write); {_NAME_ANOTHER}")


def _no_folder(base: Path) -> str:
    return f"{base}: the folder of all runs can't be made or used"


def base_of(config: pytest.Config) -> Path:
    """The folder of all runs, of ``--memtype-dir`` or ``.memtype``."""
    # A test may be in another folder when it asks for its guest.
    return config.invocation_params.dir / (config.getoption("--memtype-dir") or config.rootpath / ".memtype")


def below(folder: Path, path: Path) -> str:
    """A path as it goes with the run to other machines: from a folder, where it is below that; else in full.

    :param folder: The folder, such as pytest's root folder.
    :param path: The path.
    """
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


@functools.cache
def run_name() -> str:
    """The name of the run, the same in all its processes: workers of pytest-xdist are told it."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"


@contextlib.contextmanager
def summing_up(terminalreporter: Any) -> Iterator[None]:
    """Say an error of the block in one line and by the exit status: the rest of the summary is still to come.

    :param terminalreporter: The reporter of pytest's.
    """
    try:
        yield
    except MemtypeError as error:
        terminalreporter.write_line(f"memtype: {error.message}", red=True)
        terminalreporter._session.exitstatus = error.exit_status


def progress_of(config: pytest.Config) -> Callable[[str], None]:
    """A function that prints a line about a slow stage, past pytest's capture of output."""

    def show(stage: str) -> None:
        if threading.current_thread() is not threading.main_thread():
            # The next test's guest is being started, and the output is the present test's.
            if isinstance(stage, Remark):
                config.stash.setdefault(_later, []).append(stage)
            return
        if isinstance(stage, Remark) and not say_once(stage):
            return
        capture = config.pluginmanager.getplugin("capturemanager")
        reporter = config.pluginmanager.getplugin("terminalreporter")
        if isinstance(stage, Remark) and hasattr(config, "workeroutput"):
            # The controller of pytest-xdist prints it.
            config.workeroutput.setdefault("memtype_remarks", []).append(str(stage))
            return
        if reporter is None or capture is None:
            return
        with capture.global_and_fixture_disabled():
            reporter.write_line("")
            reporter.write_line(f"memtype: {stage}")

    return show


def say_the_rest(config: pytest.Config) -> None:
    """Print the remarks that came while a test had the output."""
    remarks = config.stash.get(_later, [])
    config.stash[_later] = []
    for remark in dict.fromkeys(remarks):
        progress_of(config)(remark)
