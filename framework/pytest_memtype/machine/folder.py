"""A private folder that never outlives its process by more than the next start."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

#: The start of such a folder's name, in the system's folder for temporary files.
PREFIX: Final = "memtype-guest-"


class PrivateFolder:
    """A new folder, mode 0700, locked for as long as this process lives.

    The lock is what tells a folder in use from a leftover. A process id in its name would not: it means
    another process, or none, in another container that shares the folder for temporary files.
    """

    def __init__(self) -> None:
        remove_leftovers()
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
            lock = _lock(self.path)
            if lock is not None:
                break
            # Another process took it for a leftover before it was locked, and removes it.
        self._lock: int | None = lock

    def remove(self) -> None:
        """Delete it with all it holds. Calling this again does nothing."""
        if self._lock is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = None


def remove_leftovers() -> None:
    """Delete the folders of processes that were killed."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        lock = _lock(path)
        if lock is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)


def _lock(path: Path) -> int | None:
    """A descriptor that holds the folder's lock, or None when it is gone, locked, or somebody else's."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    status = os.fstat(descriptor)
    # BlockingIOError: it is locked. FileNotFoundError: it was removed between open and lock.
    with contextlib.suppress(BlockingIOError, FileNotFoundError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Of the path itself, because anybody may place a symbolic link among temporary files.
        if status.st_uid == os.geteuid() and os.path.samestat(status, path.stat(follow_symlinks=False)):
            return descriptor
    os.close(descriptor)
    return None
