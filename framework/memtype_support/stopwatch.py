"""A pytest plugin: how long the tests of a run take together, without pytest's own start and end.

The seconds from the start of the first test to the end of the last go to the file ``STOPWATCH`` names.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

_moments: list[float] = []


def pytest_runtest_logstart() -> None:
    """A test begins; with pytest-xdist the controller is told when a worker begins it."""
    _moments.append(time.perf_counter())


def pytest_runtest_logfinish() -> None:
    """A test is over, its teardown included."""
    _moments.append(time.perf_counter())


def pytest_sessionfinish() -> None:
    # Workers of pytest-xdist have the variable, too.
    if _moments and "PYTEST_XDIST_WORKER" not in os.environ:
        Path(os.environ["STOPWATCH"]).write_text(str(_moments[-1] - _moments[0]))
