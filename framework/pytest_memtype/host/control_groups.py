"""The memory that control groups leave: containers and batch systems limit it far below that of the host."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True)
class _Files:
    """The names that a version of control groups has for what is read of them.

    :param limit: The file of the most bytes that a group may have.
    :param used: The file of those that it has.
    :param cached: The lines of ``memory.stat`` that tell how much of these are cached files.
    """

    limit: str
    used: str
    cached: tuple[str, ...]


# Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
_VERSION_2: Final = _Files("memory.max", "memory.current", ("inactive_file", "active_file"))
_VERSION_1: Final = _Files(
    "memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file")
)


def memory_left(groups: str | None = None, *, root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """The bytes that the tightest group of this process has left; None where none has a limit.

    Cached files count as left, as they do in MemAvailable.

    :param groups: The text of ``/proc/self/cgroup``; None reads that of this process.
    :param root: The folder that control groups are mounted at.
    """
    try:
        text = Path("/proc/self/cgroup").read_text() if groups is None else groups
    except OSError:
        # A kernel may be built without them.
        return None
    return min((left for line in text.splitlines() for left in _left_of(line, root)), default=None)


def _left_of(line: str, root: Path) -> Iterator[int]:
    """The bytes that a group and those above it have left.

    :param line: A line of ``/proc/self/cgroup``: number, controllers and path, with colons between.
    :param root: The folder that control groups are mounted at.
    """
    _, controllers, path = line.split(":", 2)
    if not controllers:
        files, top = _VERSION_2, root
    elif "memory" in controllers.split(","):
        files, top = _VERSION_1, root / "memory"
    else:
        return
    inside = Path(path.lstrip("/"))
    # In a container the path may be one of the host's, of which only the top is mounted.
    for group in [top] if ".." in inside.parts else [top / each for each in (inside, *inside.parents)]:
        # A group that isn't mounted, or has no limit ("max").
        with contextlib.suppress(OSError, ValueError):
            limit = int((group / files.limit).read_text())
            used = int((group / files.used).read_text())
            yield max(0, limit - used + _cached(group, files))


def _cached(group: Path, files: _Files) -> int:
    lines = (line.split() for line in (group / "memory.stat").read_text().splitlines())
    return sum(int(value) for name, value in lines if name in files.cached)
