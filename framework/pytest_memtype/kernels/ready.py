"""The work of ``memtype kernels``: list kernels here and on the mirror, make them ready, remove them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from pytest_memtype.errors import KernelError, Unreachable, UsageError
from pytest_memtype.host.cached_folders import remove_folder, size_of
from pytest_memtype.host.progress import Progress, shown
from pytest_memtype.host.resources import cache_directory
from pytest_memtype.kernels import mirror
from pytest_memtype.kernels.at_hand import check_at_hand
from pytest_memtype.kernels.bundle import resolve
from pytest_memtype.kernels.fetch import kernel_of, kits
from pytest_memtype.kernels.index import Kernel, meanings
from pytest_memtype.kernels.kept_indexes import every, indexes
from pytest_memtype.kernels.prepare import Status, prepare
from pytest_memtype.kernels.sets import expand
from pytest_memtype.kernels.spec import SUITES, parse
from pytest_memtype.kernels.table import live_table


@dataclass(frozen=True)
class CachedKernel:
    """A kernel in the cache, and the space that it takes.

    :param release: The release as ``uname -r`` prints it; ``tools`` for what builds guests of kernels that
        aren't Debian's.
    :param kernel: The kernel in Debian's archive; None for a kernel that was built on this host.
    :param kit: Bytes of what was downloaded and unpacked.
    :param bundles: Bytes of what was built from it.
    :param fetched: Time of the last change, in seconds since the epoch.
    :param paths: The folders of all its kits and bundles.
    """

    release: str
    kernel: Kernel | None
    kit: int
    bundles: int
    fetched: float
    paths: tuple[Path, ...]


def cached() -> list[CachedKernel]:
    """The kernels in the cache, by release."""
    cache = cache_directory()
    folders: dict[str, list[Path]] = {}
    for path in (*kits(cache), *_children(cache / "bundles")):
        # Both are named RELEASE-HASH.
        folders.setdefault(path.name.rpartition("-")[0], []).append(path)
    found = (_cached(release, paths) for release, paths in sorted(folders.items()))
    return [each for each in found if each is not None]


@dataclass(frozen=True)
class AvailableKernel:
    """A kernel that the mirror has, and the specs that mean it.

    :param kernel: The kernel in Debian's archive.
    :param specs: Specs that stand for it, beside its release, such as ``debian:bookworm`` and ``debian:6.1``.
    """

    kernel: Kernel
    specs: tuple[str, ...]


def available() -> list[AvailableKernel]:
    """The cloud kernels that the mirror has by its indexes, the oldest first.

    :raises KernelError: no index could be had.
    """
    cache = cache_directory()
    with shown(Console(stderr=True)) as progress:
        found = meanings(indexes(SUITES, cache=cache, progress=progress))
        kernels = every(cache=cache, progress=progress)
    by_release: dict[str, list[str]] = {}
    for kernel, specs in found.items():
        by_release.setdefault(kernel.release, []).extend(specs)
    return [AvailableKernel(kernel, tuple(by_release.get(kernel.release, ()))) for kernel in kernels]


def fetch(specs: Iterable[str]) -> list[Status]:
    """Fetch and build kernels, and show their progress in a table. A failure of one doesn't stop the others.

    :param specs: Specs of kernels, or ``set:NAME``.
    :raises UsageError: a spec or the name of a set can't be used.
    :raises KernelError: a set is a query, and there is no index to ask.
    """
    console = Console(stderr=True)
    with shown(console) as progress:
        wanted = expand(specs, progress=progress)
    for spec in wanted:
        parse(spec)
    with live_table(console, wanted) as show:
        return prepare(wanted, on_change=show)


def ready(specs: Iterable[str]) -> list[Status]:
    """Fetch and build kernels for a run that needs them all.

    :param specs: Specs of kernels, or ``set:NAME``.
    :raises MemtypeError: the error of the kernel that failed first, with the others' in its details.
    """
    wanted = tuple(specs)
    if mirror.unasked() is not None:
        with shown(Console(stderr=True)) as progress:
            exact = [resolve(spec, progress=progress) for spec in expand(wanted, progress=progress)]
            check_at_hand(exact, asked=wanted, progress=progress)
    done = fetch(wanted)
    failures = [status.error for status in done if status.error is not None]
    if failures:
        # A mirror that can't be reached gives one message, however many kernels need it.
        first, *others = [each for each in failures if not isinstance(each, Unreachable)] or failures[:1]
        first.details = (*first.details, *(other.message for other in others))
        raise first
    return done


def remove(names: Iterable[str], *, progress: Progress) -> Iterator[CachedKernel]:
    """Remove kernels from the cache, by release or by spec, and yield each that is gone. Guests run on.

    :param names: Releases or specs.
    :param progress: Called with a line where another run holds a lock.
    :raises UsageError: a kernel isn't there; then nothing is removed.
    :raises HostError: a folder can't be removed.
    """
    known = {each.release: each for each in cached()}
    found = {}
    for name in names:
        release = name if name in known else _release(name)
        if release not in known:
            raise UsageError(f"the cache has no kernel {name!r}; memtype kernels list shows what it has")
        found[release] = known[release]
    for each in found.values():
        for path in each.paths:
            remove_folder(path, progress=progress)
        yield each


def _release(spec: str) -> str:
    try:
        return resolve(spec).removeprefix("debian:")
    except KernelError:
        return spec.removeprefix("debian:")


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _cached(release: str, paths: Iterable[Path]) -> CachedKernel | None:
    """A kernel in the cache; None if all that it has there is being removed by another run.

    :param release: Its release.
    :param paths: The folders of its kits and bundles.
    """
    sizes: dict[Path, int] = {}
    fetched = 0.0
    for path in paths:
        with suppress(FileNotFoundError):
            size, changed = size_of(path), path.stat().st_mtime
            sizes[path], fetched = size, max(fetched, changed)
    if not sizes:
        return None
    known = [kernel for kernel in map(kernel_of, sizes) if kernel is not None]
    kit = sum(size for path, size in sizes.items() if path.parent.name == "kits")
    return CachedKernel(
        release=release,
        kernel=known[0] if known else None,
        kit=kit,
        bundles=sum(sizes.values()) - kit,
        fetched=fetched,
        paths=tuple(sizes),
    )
