"""Folders for temporary files that don't outlive their process, however it ends.

A process that is killed can remove nothing, and QEMU and its launcher, which would see its end, are killed
with it. So a shell waits for the end of a pipe that the process alone holds open, and then removes the
folders with the process's mark. If the shell is killed too, the next start removes the folders of guests.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pytest_memtype.errors import HostError

#: The start of such a folder's name, in the system's folder for temporary files.
PREFIX: Final = "memtype-guest-"

#: The shell lines of the watcher. The first argument is the mark; folders are read, one a line.
_WATCH: Final = """
mark=$1
shift
while IFS= read -r folder; do set -- "$@" "$folder"; done
for folder; do rm -rf -- "$folder"/memtype-*-"$mark"-*; done
"""


class _Watcher:
    """The shell that waits for this process's end, to remove its folders."""

    def __init__(self) -> None:
        self.mark = secrets.token_hex(6)
        self._told: set[str] = set()
        ours = -1
        theirs, ours = os.pipe()
        try:
            with Path(os.devnull).open("r+b") as nothing:
                os.posix_spawn(
                    "/bin/sh",
                    ["sh", "-c", _WATCH, "sh", self.mark],
                    os.environ,
                    file_actions=[
                        (os.POSIX_SPAWN_DUP2, theirs, 0),
                        (os.POSIX_SPAWN_DUP2, nothing.fileno(), 1),
                        (os.POSIX_SPAWN_DUP2, nothing.fileno(), 2),
                    ],
                    # Ctrl-C, and a kill of all the terminal's processes, shall not reach it.
                    setsid=True,
                )
        except OSError:
            # Without a shell, the next start removes the folders.
            os.close(ours)
            ours = -1
        finally:
            os.close(theirs)
        self._pipe = ours

    def look_at(self, folder: str) -> None:
        """Have the shell remove this process's folders in ``folder``, too."""
        if self._pipe < 0 or folder in self._told or "\n" in folder:
            return
        self._told.add(folder)
        with contextlib.suppress(BrokenPipeError):
            os.write(self._pipe, os.fsencode(folder) + b"\n")


# Keyed by the process id: a forked process isn't what the shell waits for.
@functools.cache
def _watcher(_pid: int) -> _Watcher:
    return _Watcher()


def _new_folder(what: str) -> Path:
    watcher = _watcher(os.getpid())
    watcher.look_at(tempfile.gettempdir())
    return Path(tempfile.mkdtemp(prefix=f"memtype-{what}-{watcher.mark}-"))


@contextlib.contextmanager
def temporary_folder(what: str) -> Iterator[Path]:
    """A new folder, mode 0700, that is gone after the block, or with this process.

    :param what: A word for its name.
    """
    path = _new_folder(what)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


class PrivateFolder:
    """A new folder, mode 0700, locked for as long as this process lives.

    The lock is what tells a folder in use from a leftover. A process id in its name would not: it means
    another process, or none, in another container that shares the folder for temporary files.

    :raises HostError: the file system gives what is made there to another user.
    """

    def __init__(self) -> None:
        remove_leftovers()
        while True:
            self.path = _new_folder("guest")
            lock = _lock(self.path)
            if lock is not None:
                break
            # Another process took it for a leftover before it was locked, and removes it.
            _require_owned(self.path)
        self._lock: int | None = lock

    def remove(self) -> None:
        """Delete the folder with all it holds. Calling this again does nothing."""
        if self._lock is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = None


def _require_owned(folder: Path) -> None:
    """Check that a new folder belongs to this user: there are file systems on which all is somebody's.

    :param folder: The folder; it may be gone.
    :raises HostError: it belongs to another user, and so would the next one.
    """
    with contextlib.suppress(FileNotFoundError):
        if folder.stat().st_uid == os.geteuid():
            return
        shutil.rmtree(folder, ignore_errors=True)
        raise HostError(
            f"{folder.parent}: what is made there belongs to another user at once; set TMPDIR to a folder on "
            "another file system"
        )


def remove_leftovers() -> None:
    """Delete the folders of processes that were killed."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        lock = _lock(path)
        if lock is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)


def _lock(path: Path) -> int | None:
    """A descriptor that holds the folder's lock, or None when it is gone, locked, or another user's."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    status = os.fstat(descriptor)
    # BlockingIOError: it is locked. FileNotFoundError: it was removed between open and lock.
    with contextlib.suppress(BlockingIOError, FileNotFoundError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Of the path itself, because any user may place a symbolic link among temporary files.
        if status.st_uid == os.geteuid() and os.path.samestat(status, path.stat(follow_symlinks=False)):
            return descriptor
    os.close(descriptor)
    return None
