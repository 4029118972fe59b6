"""The cache on disk: its contents are always finished, however the runs ended that made them.

Things are made under ``partial/`` of a folder and renamed into place. A run that
makes something holds the folder's lock, so anything in ``partial/`` when the
lock has just been taken was left by a run that died. Each kernel has a folder
of its own for this, and so has each template: a run only waits for the things
that it needs.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from pytest_memtype.errors import HostError, reason
from pytest_memtype.host.checksum import checksum_of, whole
from pytest_memtype.host.no_locks import locking
from pytest_memtype.host.progress import Progress, Remark, silent
from pytest_memtype.host.trust import require_ours

#: In a folder that is finished: the checksums of its files.
SUMS: Final = "sums.json"

_NOTHING = ("lock", "partial")
# Others may remove a folder as often as they have made and used it.
_TRIES = 1000

# Longer than a cold build of several kernels over a slow line takes.
_LOCK_SECONDS = 3600.0
# Seconds between two looks at whether the wait was interrupted.
_LOOK_SECONDS = 1.0
_FULL = (errno.ENOSPC, errno.EDQUOT)

_interruptions = 0


def interruptions() -> int:
    """The number of calls of :func:`interrupt_waiting`. Callers that see it grow start nothing new."""
    return _interruptions


def interrupt_waiting() -> None:
    """End each wait of this process for another run: Ctrl-C reaches only the main thread."""
    global _interruptions
    _interruptions += 1


def build_dir(cache: Path, name: str) -> Path:
    """The folder in which a thing is made (a kernel's kit and bundles, or an index), made if need be.

    :param cache: The cache folder.
    :param name: The name of the thing.
    :raises HostError: the folder can't be made.
    """
    folder = cache / "work" / name
    try:
        make_folder(folder)
    except OSError as error:
        if error.errno in _FULL:
            raise disk_full(cache) from error
        raise HostError(
            f"{reason(error)}; make {cache / 'work'} a folder that you may write to, or set MEMTYPE_CACHE"
        ) from None
    return folder


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, that only this user can write to, whatever the umask says."""
    for each in (*reversed(folder.parents), folder):
        if not each.is_dir():
            each.mkdir(mode=0o755, exist_ok=True)


def clear_workshops(cache: Path) -> None:
    """Remove what killed runs left unfinished in all build folders, except those that a run uses now."""
    work = cache / "work"
    for folder in work.iterdir() if work.is_dir() else ():
        clear_unfinished(folder)


@contextmanager
def exclusive(cache: Path, progress: Progress) -> Iterator[None]:
    """Hold the lock of a build folder, and clear what earlier runs left unfinished there.

    :param cache: The build folder, or a template's folder.
    :param progress: Called with a line where another run holds the lock.
    :raises HostError: another run held it for an hour, the wait was interrupted, or the file system has no
        locks.
    """
    # A warm start never gets here, and filelock is slow to load.
    from filelock import FileLock, Timeout

    lock = FileLock(cache / "lock")

    def acquire(seconds: float) -> None:
        for left in reversed(range(_TRIES)):
            try:
                with locking(cache / "lock"):
                    lock.acquire(timeout=seconds)
            except (FileNotFoundError, FileExistsError):
                # remove_unused() of another run came between the making of the folder and this, or in this.
                if not left:
                    raise
                with suppress(FileNotFoundError, FileExistsError):
                    make_folder(cache)
            else:
                return

    try:
        acquire(0)
    except Timeout:
        progress("waiting for another run that is preparing the same")
        deadline = time.monotonic() + _LOCK_SECONDS
        before = interruptions()
        while not lock.is_locked:
            if interruptions() != before:
                raise HostError(f"{cache / 'lock'}: interrupted while it was waited for") from None
            if time.monotonic() > deadline:
                raise HostError(
                    f"{cache / 'lock'}: another run has been preparing the same for an hour; "
                    "end it and try again"
                ) from None
            with suppress(Timeout):
                acquire(_LOOK_SECONDS)
    try:
        shutil.rmtree(cache / "partial", ignore_errors=True)
        yield
    finally:
        lock.release()


@contextmanager
def exclusive_if_free(cache: Path) -> Iterator[bool]:
    """Hold the lock like :func:`exclusive` if no other run does; yields at once whether that is so.

    :param cache: The build folder, or a template's folder.
    :raises HostError: the file system has no locks.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(cache / "lock")
    try:
        with locking(cache / "lock"):
            lock.acquire(timeout=0)
    except (Timeout, FileNotFoundError, FileExistsError):
        # Another run holds it, or has removed the folder.
        yield False
        return
    try:
        shutil.rmtree(cache / "partial", ignore_errors=True)
        yield True
    finally:
        lock.release()


def clear_unfinished(cache: Path) -> None:
    """Remove what a killed run left unfinished in a folder, unless another run holds its lock."""
    with exclusive_if_free(cache):
        pass


def remove_unused(cache: Path) -> None:
    """Remove the folder of a thing that is gone, unless another run holds its lock or is making it anew."""
    with exclusive_if_free(cache) as free:
        if not free or any(path.name not in _NOTHING for path in cache.iterdir()):
            return
        with suppress(OSError):
            # A run that waits for the lock sees that its file is gone, and makes another.
            (cache / "lock").unlink()
            cache.rmdir()


@contextmanager
def temp_dir(cache: Path) -> Iterator[Path]:
    """An empty folder that is removed after the block. The caller holds :func:`exclusive`.

    :param cache: The build folder whose lock the caller holds.
    :raises HostError: the disk is full.
    """
    try:
        make_folder(cache / "partial")
        # A name of its own: the mmdebstrap of a killed run may still be writing under the name it was given.
        with tempfile.TemporaryDirectory(dir=cache / "partial", ignore_cleanup_errors=True) as name:
            yield Path(name)
    except OSError as error:
        if error.errno in _FULL:
            raise disk_full(cache) from error
        raise


@contextmanager
def staged(final: Path, *, cache: Path) -> Iterator[Path]:
    """A path to make a folder at, which becomes ``final`` if the block ends well, and is removed if not.

    A ``final`` that is there by then is as good, and stays. The caller holds :func:`exclusive`.

    :param final: The final place of the folder.
    :param cache: The build folder whose lock the caller holds.
    :raises HostError: the disk is full.
    """
    with temp_dir(cache) as folder:
        unfinished = folder / final.name
        yield unfinished
        _take_from_others(unfinished)
        put_into_place(unfinished, final)


def put_into_place(finished: Path, final: Path) -> bool:
    """Rename a finished folder to its final place; False when a folder is there, which stays."""
    make_folder(final.parent)
    try:
        # An empty folder is replaced: nothing that was finished is one.
        finished.rename(final)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def _take_from_others(folder: Path) -> None:
    """Let only this user write to anything in a folder, whatever the umask or the modes of packages say."""
    for path in (folder, *folder.rglob("*")):
        mode = path.lstat().st_mode
        # Every user may write to a kit's /tmp.
        if mode & (stat.S_IWGRP | stat.S_IWOTH) and not stat.S_ISLNK(mode) and not mode & stat.S_ISVTX:
            path.chmod(stat.S_IMODE(mode) & ~(stat.S_IWGRP | stat.S_IWOTH))


def seal(folder: Path) -> None:
    """Note the checksums of a folder's files, which never change from now on, and have all on the disk."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and SUMS not in path.name)
    sums = {name: checksum_of(folder / name) for name in names}
    unfinished = folder / f".{SUMS}-{os.getpid()}"
    unfinished.write_text(json.dumps(sums, indent=2) + "\n")
    unfinished.chmod(0o644)
    unfinished.replace(folder / SUMS)
    flush(folder)


def is_whole(folder: Path, progress: Progress, *, among: Container[str] | None = None) -> bool:
    """Whether a finished folder of files is there and as it was when it was sealed.

    A folder of an earlier version of this package has no checksums; then they are made.

    :param folder: The folder.
    :param progress: Called with a :class:`Remark` that says what is damaged.
    :param among: The names of the files that matter; None for all.
    :raises NotOurs: others than this user could have changed the folder.
    """
    if not folder.is_dir():
        return False
    try:
        require_ours(folder)
        if not (folder / SUMS).exists():
            seal(folder)
        sums = json.loads((folder / SUMS).read_bytes())
        # Someone else may have made the folder, and none of its files lies elsewhere.
        changed = [
            name
            for name, expected in sums.items()
            if "/" in name or ((among is None or name in among) and whole(folder / name, expected) is None)
        ]
    except FileNotFoundError as error:
        changed = [reason(error)]
    except OSError as error:
        # A full disk, or too many open files, says nothing about the folder.
        raise HostError(f"{folder}: can't be checked ({reason(error)})") from None
    except (ValueError, AttributeError, TypeError, RecursionError):
        changed = [SUMS]
    if changed:
        what = ", ".join(changed)
        progress(Remark(f"{folder} is damaged, and made again: {what} has changed since it was made"))
    return not changed


def made_once(
    folder: Path, make: Callable[[Path], None], *, cache: Path, work: str, progress: Progress
) -> None:
    """Have a folder made that isn't there or is damaged, once even where several runs want it.

    :param folder: The final place of the folder.
    :param make: Called with the build folder, whose lock is held then; makes ``folder`` by :func:`staged`.
    :param cache: The cache folder.
    :param work: The name of the build folder, see :func:`build_dir`.
    :param progress: Called with a line where another run holds the lock, and with a :class:`Remark` about
        damage.
    :raises HostError: the folder can't be read, or another run doesn't finish it.
    :raises NotOurs: others than this user could have changed the folder.
    """
    if is_whole(folder, progress):
        return
    place = build_dir(cache, work)
    with exclusive(place, progress):
        # Another run may have made it while this one waited.
        if not is_whole(folder, silent):
            discard(folder, cache=place)
            make(place)


def discard(path: Path, *, cache: Path) -> None:
    """Remove a finished thing, or nothing if it is gone already. The caller holds :func:`exclusive`.

    :param path: The folder or file to remove.
    :param cache: The build folder whose lock the caller holds.
    :raises HostError: the thing can't be removed.
    """
    if not path.exists():
        return
    grave = cache / "partial"
    try:
        # A folder of its own only if there is something already: a full disk has no room to make one.
        if grave.exists():
            grave = Path(tempfile.mkdtemp(dir=grave)) / path.name
        # Renamed first: an interruption leaves no half that the next run takes for the whole.
        with suppress(FileNotFoundError):
            path.rename(grave)
            shutil.rmtree(grave)
    except OSError as error:
        raise HostError(f"{path}: can't be removed ({reason(error)}); make it yours to write") from None


def require_space(cache: Path, needed: int) -> None:
    """Check that ``needed`` bytes are free before a long download.

    :param cache: A folder on the disk.
    :param needed: Bytes that have to be free.
    :raises HostError: fewer bytes are free.
    """
    if shutil.disk_usage(cache).free < needed:
        raise disk_full(cache)


def disk_full(cache: Path) -> HostError:
    """The error that says that the disk of the cache is full."""
    free = shutil.disk_usage(cache).free
    return HostError(
        f"{cache}: disk is full ({free >> 20} MiB free, a kernel and the suite's templates take 13 GiB); "
        "free some, or set MEMTYPE_CACHE to a folder on another disk"
    )


def flush(directory: Path) -> None:
    """Have the files of ``directory`` on the disk before a rename makes them look finished."""
    for path in directory.iterdir():
        if not path.is_file():
            continue
        with path.open("rb") as file:
            os.fsync(file.fileno())
