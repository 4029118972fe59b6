"""The logs of tests that passed on a cluster's worker: they stay on its machine, the newest of them.

Each test has one file, which is named by the SHA-256 of what it holds, in a folder named after the run. So a
run that knows the name can tell whether what it gets is what was kept. The worker's own part,
:mod:`pytest_memtype.cluster.bootstrap`, reads them: it travels alone, and knows this place by itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pytest_memtype.host.progress import silent
from pytest_memtype.host.resources import cache_directory
from pytest_memtype.host.store import exclusive

FOLDER: Final = "evidence"
"""The folder of the cache that has them."""

NAME: Final = re.compile(r"[0-9a-f]{64}")
"""A name of theirs: a SHA-256."""

LIMIT: Final = 256 << 20
"""Bytes on the disk that they may take together. A test with one guest takes 16 KiB."""


def keep(run: str, content: bytes) -> str:
    """Keep the logs of a test; the name under which they are kept.

    :param run: The run's name.
    :param content: The logs, as they are to travel.
    :raises OSError: they can't be written.
    :raises HostError: the cache can't be used.
    """
    name = hashlib.sha256(content).hexdigest()
    store = _store()
    store.mkdir(mode=0o700, exist_ok=True)
    with exclusive(store, silent):
        for folder in (store / "partial", store / run):
            folder.mkdir(mode=0o700, exist_ok=True)
        partial = store / "partial" / name
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        partial.rename(store / run / name)
    return name


def trim(limit: int) -> None:
    """Remove logs, the oldest first, until the rest takes at most ``limit`` bytes.

    :param limit: Bytes on the disk that may stay.
    :raises HostError: the cache can't be used.
    """
    store = _store()
    if not store.is_dir():
        return
    with exclusive(store, silent):
        files = list(_files(store))
        left = sum(status.st_blocks * 512 for _, status in files)
        if left <= limit:
            return
        for name, status in sorted(files, key=lambda each: each[1].st_mtime_ns):
            if left <= limit:
                return
            path = Path(name)
            path.unlink()
            left -= status.st_blocks * 512
            with contextlib.suppress(OSError):
                # The last file of a run takes its folder along.
                path.parent.rmdir()


def _files(store: Path) -> Iterator[tuple[str, os.stat_result]]:
    # Without a Path for each: this is done at the end of each task, and there are tens of thousands of files.
    with os.scandir(store) as runs:
        for run in [each for each in runs if each.is_dir(follow_symlinks=False)]:
            with os.scandir(run) as files:
                yield from ((each.path, each.stat(follow_symlinks=False)) for each in files)


def _store() -> Path:
    return cache_directory() / FOLDER
