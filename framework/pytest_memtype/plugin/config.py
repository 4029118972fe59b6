"""Facts of a run that several parts of the pytest plugin need: its folder, its name, its progress."""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_memtype.host.progress import Remark, say_once
from pytest_memtype.run.folder import new_run

_run_directory = pytest.StashKey[Path]()
_later = pytest.StashKey[list[Remark]]()


def run_of(config: pytest.Config) -> Path:
    """The run's folder; made when the first test needs it, so that other suites leave nothing."""
    if _run_directory not in config.stash:
        worker = getattr(config, "workerinput", None)
        if worker is not None:
            base, name = Path(worker["memtype_base"]), worker["memtype_name"]
        else:
            base, name = base_of(config), run_name()
        config.stash[_run_directory] = new_run(base, name)
    return config.stash[_run_directory]


def base_of(config: pytest.Config) -> Path:
    """The folder of all runs, of ``--memtype-dir`` or ``.memtype``."""
    return config.getoption("--memtype-dir") or config.rootpath / ".memtype"


@functools.cache
def run_name() -> str:
    """The name of the run, the same in all its processes: workers of pytest-xdist are told it."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"


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
