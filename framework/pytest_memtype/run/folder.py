"""Folders of runs, which keep their record files and the logs of failed tests."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

KEPT_RUNS = 10

_RUN = re.compile(r"\d{8}-\d{6}-\d+")
_SHARED = re.compile(r".*-(worker-[0-9a-f]{8}(?:-[0-9]+)?)-[0-9a-f]{8}", re.DOTALL)


def new_run(base: Path, name: str, *, resumed: Path | None = None) -> Path:
    """Make the folder of a run below ``base``, and remove all but the newest runs, and those that still run.

    Other files of the user there stay.

    :param base: Folder of all runs, ``.memtype``; made when it isn't there.
    :param name: Name of the run, which sorts by time, such as ``20261123-040712-4711``.
    :param resumed: The folder, without links, of a run that the new one goes on with: it stays, too.
    """
    try:
        base.mkdir(parents=True)
    except FileExistsError:
        pass
    else:
        (base / ".gitignore").write_text("*\n")
    runs = base / "runs"
    directory = runs / name
    # Each worker of a run comes here with the same name.
    directory.mkdir(parents=True, exist_ok=True)
    for old in sorted(path for path in runs.iterdir() if _is_run(path))[:-KEPT_RUNS]:
        # The new one isn't the newest where the clock was set back.
        if old != directory and old.resolve() != resumed and not _is_held(old):
            shutil.rmtree(old, ignore_errors=True)
    # In a folder of its own: a link of another run, or one left by a killed run, may have any name.
    with tempfile.TemporaryDirectory(prefix=".latest-", dir=directory) as place:
        link = Path(place) / "latest"
        link.symlink_to(directory.relative_to(base))
        link.replace(base / "latest")
    return directory


def hold(run: Path) -> int:
    """Keep newer runs from removing the folder of this one, until the descriptor is closed.

    :param run: The run's folder.
    :returns: the descriptor, for the caller to close.
    :raises OSError: it can't be opened.
    """
    descriptor = _opened(run)
    # On a file system without locks a run has to be one of the newest.
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return descriptor


def _is_held(run: Path) -> bool:
    with contextlib.suppress(OSError):
        descriptor = _opened(run)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
    return False


def _opened(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def is_name_of_a_run(name: str) -> bool:
    """Whether a run's folder may have a name: the name of another file never is one."""
    return _RUN.fullmatch(name) is not None


def test_folder(run: Path, test: str) -> Path:
    """The folder of one test's logs, named after its node id."""
    # Nor does the name begin with the dots of a file outside of the root folder: it would be hidden.
    readable = re.sub(r"[^A-Za-z0-9_.=-]+", "-", test).strip("-").lstrip(".-")[-150:]
    # Two tests may differ only in characters that a file name shouldn't have.
    return run / f"{readable}-{hashlib.sha256(test.encode()).hexdigest()[:8]}"


def shared_guests_folder(run: Path, module: str, worker: str) -> Path:
    """The folder of the logs of guests that tests of a module share.

    :param run: The run's folder.
    :param module: The module's node id.
    :param worker: The name of the worker of pytest-xdist, which may share a module but not a guest, or empty.
    """
    return test_folder(run, f"{module}-{worker}")


def cluster_worker(tests: Iterable[str]) -> str:
    """The name that a cluster's worker has to pytest in a task: no other shares its guests, nor their logs.

    :param tests: The node ids of the task's tests.
    """
    return f"worker-{hashlib.sha256(chr(10).join(tests).encode()).hexdigest()[:8]}"


def has_shared_guests(folder: str, module: str) -> bool:
    """Whether a folder has the logs of guests that tests of a module shared in a task of a cluster.

    :param folder: The folder's name.
    :param module: The module's node id.
    """
    found = _SHARED.fullmatch(folder)
    return found is not None and shared_guests_folder(Path(), module, found[1]).name == folder


def module_of(test: str) -> str:
    """The node id of a test's module.

    :param test: The test's node id.
    """
    return test.partition("::")[0]


def _is_run(path: Path) -> bool:
    return is_name_of_a_run(path.name) and path.is_dir() and not path.is_symlink()
