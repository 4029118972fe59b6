"""Entries of the cache folder, and their removal."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pytest_memtype.console.text import sanitize
from pytest_memtype.errors import UsageError
from pytest_memtype.host.cached_folders import (
    BROWSERS,
    LINT_TOOLS,
    OUTER_GUESTS,
    SUITE_QEMUS,
    remove_folder,
    size_of,
)
from pytest_memtype.host.progress import Progress
from pytest_memtype.host.resources import cache_directory
from pytest_memtype.host.store import discard, exclusive
from pytest_memtype.kernels.user_module import FOLDER as USER_MODULES
from pytest_memtype.machine import template_store
from pytest_memtype.run import kept_logs


@dataclass(frozen=True)
class Entry:
    """An entry of the cache.

    :param kind: ``kit`` (a kernel as downloaded, with its compiler), ``drivers``, ``modules``
        and ``firmware`` (downloaded, too), ``image`` (a distribution's), ``selftests`` (the kernel's own
        tests, built), ``bundle`` (built from a kit), ``user-module`` (a test's own, or what that needs),
        ``template`` (booted from a bundle), ``cluster`` (what the client of a cluster has sent),
        ``evidence`` (logs that a cluster's worker keeps of a run), or of the project's own tests ``qemu``
        (another suite's) and ``outer`` (the guest in which KVM is tested, and its template), ``browser``
        (Chromium), and ``lint`` (the kernel's ``checkpatch.pl``).
    :param name: The name of its folder, by which the user names the entry.
    :param kernel: The kernel's release; empty where it isn't known.
    :param path: Its folder.
    :param size: Bytes on the disk.
    :param used: When it was last used or made, seconds since the epoch.
    """

    kind: str
    name: str
    kernel: str
    path: Path
    size: int
    used: float


def entries() -> list[Entry]:
    """List all entries of the cache; those that are cheapest to make again come last."""
    cache = cache_directory()
    return [
        *_folders("kit", cache / "kits"),
        *_folders("drivers", cache / "drivers"),
        *_folders("modules", cache / "modules"),
        *_folders("image", cache / "images"),
        *_folders("firmware", cache / "firmware"),
        *_nameless("selftests", cache / "selftests"),
        *_folders("bundle", cache / "bundles"),
        *_nameless("user-module", cache / USER_MODULES),
        *_nameless("qemu", cache / SUITE_QEMUS),
        *_nameless("outer", cache / OUTER_GUESTS),
        *_nameless("lint", cache / LINT_TOOLS),
        *_nameless("browser", cache / BROWSERS),
        *_nameless("cluster", cache / "cluster"),
        *_nameless("evidence", cache / kept_logs.FOLDER),
        *_templates(cache),
    ]


def prune(limit: int) -> None:
    """Remove the templates used least recently, and the oldest evidence, until each takes ``limit`` bytes.

    :param limit: Bytes on the disk that may stay of each of the two.
    """
    template_store.prune(cache_directory() / "templates", limit=limit)
    kept_logs.trim(limit)


def remove(names: tuple[str, ...], *, progress: Progress) -> Iterator[Entry]:
    """Remove entries by name, and yield each that is gone. Running guests go on.

    :param names: Names of the entries.
    :param progress: Called with one line when another process uses an entry and is waited for.
    :raises UsageError: no entry has one of the names; then nothing is removed.
    :raises HostError: an entry can't be removed.
    """
    known = entries()
    for name in names:
        if all(entry.name != name for entry in known):
            raise UsageError(f"the cache holds nothing called {name!r}; memtype cache lists what there is")
    for entry in known:
        if entry.name in names:
            if entry.kind == "template":
                with exclusive(entry.path, progress):
                    template_store.discard(entry.path)
            elif entry.kind in ("cluster", "evidence"):
                # The lock that a worker holds while it writes; one that still wants luggage unpacks it again.
                with exclusive(entry.path.parent, progress):
                    discard(entry.path, cache=entry.path.parent)
            else:
                remove_folder(entry.path, progress=progress)
            yield entry


def _folders(kind: str, folder: Path) -> Iterator[Entry]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        # Both are named RELEASE-HASH.
        kernel = path.name.rpartition("-")[0]
        # Another run may remove it at this moment.
        with contextlib.suppress(FileNotFoundError):
            yield Entry(kind, path.name, kernel, path, size_of(path), path.stat().st_mtime)


def _nameless(kind: str, folder: Path) -> Iterator[Entry]:
    """The folders of a kind that are of no kernel; what is still being made, or removed, is left out."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_dir() and not path.name.endswith("partial"):
            with contextlib.suppress(FileNotFoundError):
                yield Entry(kind, path.name, "", path, size_of(path), path.stat().st_mtime)


def _templates(cache: Path) -> Iterator[Entry]:
    for template in template_store.stored(cache / "templates"):
        folder = template.directory
        yield Entry("template", folder.name, _release(folder), folder, template.size, template.used)


def _release(template: Path) -> str:
    try:
        notes = json.loads((template / "ready" / "template.json").read_text())["notes"]
        return sanitize(str(notes["greeting"]["release"]).encode())
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "damaged"
