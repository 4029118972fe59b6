"""Folders of the cache that are made whole and never change: their size, and their removal."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pytest_memtype.host.progress import Progress
from pytest_memtype.host.resources import cache_directory
from pytest_memtype.host.store import build_dir, discard, exclusive

#: Folders of the cache that only tests of the project fill.
SUITE_QEMUS: Final = "suite-qemus"
OUTER_GUESTS: Final = "kvm"
LINT_TOOLS: Final = "lint"
BROWSERS: Final = "browsers"


def remove_folder(path: Path, *, progress: Progress) -> None:
    """Remove a folder of the cache, once no run makes it or a part of it.

    :param path: The folder; it may be gone already.
    :param progress: Called with a line where another run holds the lock.
    :raises HostError: the folder can't be removed.
    """
    place = build_dir(cache_directory(), _workshop_of(path))
    with exclusive(place, progress):
        discard(path, cache=place)


def _workshop_of(path: Path) -> str:
    match path.parent.name:
        case "bundles":
            # A bundle doesn't say which kit it was made in; a finished bundle is never written to.
            return "bundles"
        case "drivers" | "modules" | "selftests" as kind:
            return f"{kind}-{path.name}"
        case parent if parent == SUITE_QEMUS:
            return f"suite-qemu-{path.name}"
    return path.name


def size_of(path: Path) -> int:
    """The number of bytes that a folder takes on the disk."""
    return sum(file.lstat().st_blocks * 512 for file in path.rglob("*"))
