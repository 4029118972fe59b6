"""The indexes that the cache keeps: read anew after a day, and used at any age where no mirror answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from pytest_memtype.errors import HostError, KernelError, Unreachable, reason
from pytest_memtype.host.files import read_small
from pytest_memtype.host.progress import Progress, Remark
from pytest_memtype.host.store import build_dir, exclusive, flush, interruptions, temp_dir
from pytest_memtype.kernels import mirror
from pytest_memtype.kernels.dropped import dropped_since
from pytest_memtype.kernels.in_threads import in_threads
from pytest_memtype.kernels.index import ARCHIVE, Index, Kernel, choose, in_order, parse, suites_of
from pytest_memtype.kernels.mmdebstrap import require_network, unpack
from pytest_memtype.kernels.sources import base_of, sources_of
from pytest_memtype.kernels.spec import SUITES, DebianSpec

# Debian publishes a kernel every week or so.
_FRESH_SECONDS = 24 * 3600
# Reading an index without a kernel again takes seconds; it may also be half of a mirror's own update.
_REFUSED_SECONDS = 3600
_REFUSED = "no-kernel"
_FORMAT = 2
INDEX_BYTES: Final = 16 << 20
"""The most bytes that the file of an index may have; 16 KiB are usual."""
_WHAT = "Debian's index of"
# Reading an index is half waiting for the mirror, half work for one core.
_AT_ONCE = 4

# apt keeps the index compressed or not, as the host's settings have it; apt-helper reads either.
_DUMP = r"""
mkdir "$1/kernels"
apt-get indextargets --format '$(RELEASE) $(FILENAME)' 'Created-By: Packages' |
while read -r release file; do
    /usr/lib/apt/apt-helper cat-file "$file" |
    awk -v RS= -v ORS='\n\n' '/^Package: linux-(image|binary|headers)-/' >> "$1/kernels/$release"
done
"""


class _Stored(msgspec.Struct):
    """The content of an index's file; ``fetched`` is in seconds since the epoch."""

    fetched: float
    newest: str | None
    kernels: tuple[Kernel, ...]


def find(spec: DebianSpec, *, cache: Path, progress: Progress) -> Kernel:
    """The kernel that a spec stands for.

    Indexes older than a day are refreshed. An index that can't be is used as it is, and ``progress`` is told.

    :param spec: The spec of a kernel in Debian's archive.
    :param cache: The cache folder.
    :param progress: Called with a line where an index is read, and with a :class:`Remark` about old indexes.
    :raises KernelError: no kernel fits, or no index could be had.
    """
    suites = suites_of(spec)
    found = indexes(suites, cache=cache, progress=progress)
    missing = [suite for suite in suites if suite not in found]
    where = f"the indexes kept here, which are without {', '.join(missing)}" if missing else ARCHIVE
    return choose(spec, found, where=where)


def every(*, cache: Path, progress: Progress) -> list[Kernel]:
    """The cloud kernels of all suites, the oldest first; of several packages of one release the newest.

    :param cache: The cache folder.
    :param progress: Called with a line where an index is read, and with a :class:`Remark` about old indexes.
    :raises KernelError: no index could be had.
    """
    found = indexes(SUITES, cache=cache, progress=progress)
    kernels = [kernel for index in found.values() for kernel in index.kernels if kernel.cloud]
    return list({kernel.release: kernel for kernel in in_order(kernels)}.values())


def listed(release: str, *, cache: Path) -> list[Kernel]:
    """The kernels of a release in the indexes that are at most a day old. No mirror is asked."""
    fresh = (_load(cache, suite, max_age=_FRESH_SECONDS) for suite in SUITES)
    return [kernel for index in fresh if index for kernel in index.kernels if kernel.release == release]


def indexes(suites: Iterable[str], *, cache: Path, progress: Progress) -> dict[str, Index]:
    """The indexes of suites, at most a day old where that can be had.

    Indexes that can't be refreshed are used as they are, whatever their age. ``progress`` is told so, with a
    :class:`Remark`, once for a run.

    :param suites: Names of suites.
    :param cache: The cache folder.
    :param progress: Called with a line where an index is read, and with a :class:`Remark` about old indexes.
    :raises Unreachable: no index is in the cache, and the mirror can't be reached or may not be asked.
    :raises KernelError: no index could be had.
    """
    wanted = tuple(suites)
    kept = kept_indexes(cache, wanted)
    stale = [suite for suite in wanted if _load(cache, suite, max_age=_FRESH_SECONDS) is None]
    reason = mirror.unasked()
    failures: dict[str, KernelError | HostError] = {}
    old = wanted
    if stale and reason is None:
        lost_before = mirror.lately_lost(cache)
        if kept and lost_before:
            reason = mirror.CANT_BE_REACHED
        else:
            failures = _refresh_all(
                stale, cache=cache, progress=progress, impatient=bool(kept), lost_before=lost_before
            )
            kept = kept_indexes(cache, wanted)
            reason = mirror.unasked()
            if failures and reason is None:
                old = tuple(failures)
                # "Debian's index of sid: the mirror ...": the suite is named anyway.
                message = next(iter(failures.values())).message
                reason = message.partition(": ")[2] if message.startswith(_WHAT) else message
    if not kept:
        if failures:
            raise next(iter(failures.values()))
        named = ", ".join(wanted) if len(wanted) < len(SUITES) else "any suite"
        raise Unreachable(f"{_WHAT} {named}: not in the cache, and {reason}; {mirror.ADVICE}")
    if reason is not None and mirror.say_once():
        progress(Remark(f"{_ages(cache, old)}; {reason}"))
    return kept


def _refresh_all(
    suites: Sequence[str], *, cache: Path, progress: Progress, impatient: bool, lost_before: bool
) -> dict[str, KernelError | HostError]:
    """Read indexes anew, and return for each failed suite why it failed.

    The first is read alone until the mirror has answered: where it doesn't, the others aren't tried.

    :param suites: Names of suites.
    :param cache: The cache folder.
    :param progress: Called with a line where an index is read.
    :param impatient: Give up soon on a mirror that doesn't answer, see :func:`unpack`: there are older
        indexes.
    :param lost_before: Whether the caller knew of a run that had found the mirror unreachable. If not, and
        there is such a run by now, the mirror isn't tried again.
    """
    answered = threading.Event()
    before = interruptions()

    def stopped() -> bool:
        return interruptions() != before

    def refresh(suite: str) -> KernelError | HostError | None:
        what = f"{_WHAT} {suite}"

        def on_contact() -> None:
            answered.set()
            if impatient:
                progress(f"reading {what}")

        if suite != suites[0]:
            answered.wait()
        # Whatever comes of it, the others don't wait for this one.
        try:
            require_network(what, cache=cache)
            place = build_dir(cache, f"index-{suite}")
            with exclusive(place, progress):
                if stopped():
                    return HostError(f"{what}: interrupted")
                # Another run may have done it while this one waited, or have found that it can't be done.
                if _load(cache, suite, max_age=_FRESH_SECONDS) is not None:
                    return None
                if mirror.lately_lost(cache) and not lost_before:
                    mirror.lost(cache)
                    mirror.require(what)
                _check_refused(suite, place)
                # A mirror that doesn't answer gives one line, which comes when that is known.
                if not impatient:
                    progress(f"reading {what}")
                _refresh(cache, suite, place, impatient=impatient, on_contact=on_contact)
        except (KernelError, HostError) as error:
            return error
        except OSError as error:
            return HostError(f"{what}: {reason(error)}")
        finally:
            answered.set()
        return None

    done = in_threads(refresh, suites, at_once=min(_AT_ONCE, len(suites)), stop=answered.set)
    return {suite: error for suite, error in zip(suites, done, strict=True) if error is not None}


def ages(cache: Path) -> dict[str, float]:
    """The age in seconds of each suite's index in the cache. Negative where the clock was set back."""
    return {
        suite: time.time() - found[1] for suite in SUITES if (found := read_kept(cache, suite)) is not None
    }


def age_text(seconds: float) -> str:
    """The text for an age in seconds: ``3 days old``, always at least one of a unit."""
    for unit, size in (("day", 24 * 3600), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            number = int(seconds // size)
            return f"{number} {unit}{'s' if number > 1 else ''} old"
    return "seconds old" if seconds >= 0 else "from the future by this host's clock"


def _ages(cache: Path, suites: Iterable[str]) -> str:
    """The ages of the indexes of suites, as the beginning of a sentence."""
    found = ages(cache)
    groups: dict[str, list[str]] = {}
    for suite in suites:
        if suite in found:
            groups.setdefault(age_text(found[suite]), []).append(suite)
    missing = [suite for suite in suites if suite not in found]
    without = f", and there is none of {', '.join(missing)}" if missing else ""
    match list(groups.items()):
        case []:
            return f"going on without {_WHAT} {', '.join(missing)}"
        case [(age, [suite])]:
            return f"{_WHAT} {suite} is {age}{without}"
        case [(age, [*_])]:
            return f"Debian's indexes are {age}{without}"
        case _:
            oldest = age_text(max(found[suite] for suite in suites if suite in found))
            return f"Debian's indexes are up to {oldest} ({', '.join(groups[oldest])}){without}"


def path_of(cache: Path, suite: str) -> Path:
    """The file that the index of a suite is kept in."""
    # The format in the name: two versions of this package may share a cache.
    return cache / "index" / f"{suite}.{_FORMAT}.json"


def kept_indexes(cache: Path, suites: Iterable[str]) -> dict[str, Index]:
    """The indexes of suites that are on disk, by suite, whatever their age."""
    return {suite: index for suite in suites if (index := _load(cache, suite)) is not None}


def _load(cache: Path, suite: str, *, max_age: float | None = None) -> Index | None:
    """The index kept on disk; None when there is none, it is damaged or older than ``max_age`` seconds.

    With a limit of age it is none either where the mirror was found to have dropped something since.

    :param cache: The cache folder.
    :param suite: The name of the suite.
    :param max_age: The limit in seconds; None takes an index of any age.
    """
    found = read_kept(cache, suite)
    if found is None:
        return None
    index, fetched = found
    if max_age is None:
        return index
    # A clock set back must not make an index fresh for ever.
    fresh = 0 <= time.time() - fetched < max_age and not dropped_since(suite, fetched, cache=cache)
    return index if fresh else None


def read_kept(cache: Path, suite: str) -> tuple[Index, float] | None:
    """The index kept on disk, and its time in seconds since the epoch; None without one that is of use.

    A damaged one is of none, nor is one without kernels, which earlier versions of this package kept.

    :param cache: The cache folder.
    :param suite: The name of the suite.
    """
    try:
        index, fetched = decode(read_small(path_of(cache, suite), most=INDEX_BYTES))
    except (OSError, ValueError):
        return None
    return (index, fetched) if _has_enough(index, suite) else None


def _has_enough(index: Index, suite: str) -> bool:
    """Whether an index may be its suite's: one that only extends another may have no kernel."""
    return bool(index.kernels) or base_of(suite) != suite


def decode(content: bytes) -> tuple[Index, float]:
    """The index in a kept file's content, and the time it was fetched, in seconds since the epoch.

    :param content: The content of the file, as :func:`encode` made it.
    :raises ValueError: the content is damaged.
    """
    try:
        stored = msgspec.json.decode(content, type=_Stored)
    except RecursionError as error:
        raise ValueError(f"no index: {error}") from None
    return Index(stored.newest, stored.kernels), stored.fetched


def encode(index: Index, *, fetched: float) -> bytes:
    """The content of the file that an index is kept in."""
    return msgspec.json.encode(_Stored(fetched, index.newest, index.kernels))


def _refresh(
    cache: Path, suite: str, place: Path, *, impatient: bool, on_contact: Callable[[], None]
) -> None:
    """Fetch the index of a suite and keep it. The caller holds the lock of ``place``.

    :param cache: The cache folder.
    :param suite: The name of the suite.
    :param place: The build folder of the index.
    :param impatient: Give up soon on a mirror that doesn't answer, see :func:`unpack`.
    :param on_contact: Called when the mirror has sent something.
    :raises KernelError: the mirror failed, or a suite that stands alone has no kernel.
    """
    with temp_dir(place) as folder:
        root = folder / "root"
        sources = sources_of(suite)
        unpack(
            sources,
            root,
            hook=_DUMP,
            what=f"{_WHAT} {suite}",
            cache=cache,
            impatient=impatient,
            on_contact=on_contact,
        )
        files = [root / "kernels" / release for release in sources.releases()]
        # In UTF-8, whatever this host's locale is; names of people count for nothing.
        text = "".join(file.read_text(encoding="utf-8", errors="replace") for file in files if file.exists())
        index = parse(text.splitlines(keepends=True), suite=suite)
        if not _has_enough(index, suite):
            (place / _REFUSED).write_text(_mirrors(suite))
            raise _without_kernel(suite)
        partial = folder / "index.json"
        partial.write_bytes(encode(index, fetched=time.time()))
        flush(folder)
        path_of(cache, suite).parent.mkdir(exist_ok=True)
        partial.replace(path_of(cache, suite))


def _mirrors(suite: str) -> str:
    """The mirrors of a suite, as mmdebstrap is told of them."""
    return "\n".join(sources_of(suite).arguments(Path()))


def _check_refused(suite: str, place: Path) -> None:
    """Check that its mirrors weren't found to have no kernel of a suite within the last hour.

    :param suite: The name of the suite.
    :param place: The build folder of its index.
    :raises KernelError: they were.
    """
    note = place / _REFUSED
    try:
        is_fresh = 0 <= time.time() - note.stat().st_mtime < _REFUSED_SECONDS
        if is_fresh and note.read_text() == _mirrors(suite):
            raise _without_kernel(suite)
    except (OSError, ValueError):
        return


def _without_kernel(suite: str) -> KernelError:
    return KernelError(
        f"{_WHAT} {suite}: apt has read it, and there is no kernel in it; check the mirror, which is asked "
        "once an hour"
    )
