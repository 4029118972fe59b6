"""For all tests of the framework itself."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from pytest_memtype.host.resources import cache_directory
from pytest_memtype.kernels import mirror

# pytester gives the pytest it runs another home, where kernels would be built anew.
os.environ.setdefault("MEMTYPE_CACHE", str(cache_directory()))

# A shell starts what it puts into the background with SIGINT ignored, and every process started from there
# inherits that: no test of Ctrl-C would see an effect.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes is a matter of the host and of what else runs there: nothing fails for it.
settings.register_profile("memtype", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("memtype")


# What CI services and people set for their terminal, and rich, click and pytest read.
_OF_THE_TERMINAL = (
    *("CLICOLOR_FORCE", "COLUMNS", "FORCE_COLOR", "LINES", "NO_COLOR"),
    *("PYTEST_ADDOPTS", "PY_COLORS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"),
    # By these pytest tells a CI, in whose summary it doesn't shorten messages.
    *("BUILD_NUMBER", "CI"),
    # Tests of this project's own are no part of what a job of GitHub's sums up.
    "GITHUB_STEP_SUMMARY",
)
# What containers' images and tox set, and users don't: output that isn't buffered hid lines in the wrong
# order, and one that is UTF-8 whatever the locale that characters were replaced.
_OF_PYTHON = ("PYTHONDONTWRITEBYTECODE", "PYTHONIOENCODING", "PYTHONUNBUFFERED", "PYTHONUTF8")


@pytest.fixture(autouse=True, scope="session")
def _a_terminal_like_any() -> Iterator[None]:
    """Tests compare what is printed, by this process and those it starts."""
    with pytest.MonkeyPatch.context() as patch:
        for name in (*_OF_THE_TERMINAL, *_OF_PYTHON):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(autouse=True)
def _a_process_that_knows_of_no_mirror() -> Iterator[None]:
    """What one test has found of the mirror, or forbidden itself, is no other test's."""
    known = mirror.state()
    yield
    mirror.restore(known)


@pytest.fixture
def temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, shared with no other test."""
    path = tmp_path / "temporary"
    path.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    return path
