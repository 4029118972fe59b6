"""Named sets of kernels: TOML files with a list of specs, or with a query to indexes or to the cache."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress

from pytest_memtype.errors import KernelError, UsageError
from pytest_memtype.host import resources
from pytest_memtype.host.nearest import unknown
from pytest_memtype.host.progress import Progress, silent
from pytest_memtype.kernels.bundle import kept_kernels, source_hash
from pytest_memtype.kernels.index import Kernel, in_order, newest_of_each_series, suites_of
from pytest_memtype.kernels.kept_indexes import every, indexes
from pytest_memtype.kernels.spec import SUITES, DebianSpec, parse

DEFAULT = ("set:default",)
"""The specs that are tested when the user names no kernel."""

_PREFIX = "set:"

_OF_EACH_SERIES = "newest-of-each-series"
_QUERIES: dict[str, Callable[[list[Kernel]], list[Kernel]]] = {
    _OF_EACH_SERIES: newest_of_each_series,
    "every-kernel": list,
}
_IN_THE_CACHE = "in-the-cache"


def expand(specs: Iterable[str], *, progress: Progress = silent) -> tuple[str, ...]:
    """The specs, with ``set:NAME`` replaced by the specs of the set; none of them twice.

    :param specs: Specs of kernels, or ``set:NAME``.
    :param progress: Called with a line where an index is read.
    :raises KernelError: a set is a query, and there is no index to ask.
    :raises UsageError: there is no such set, or its file isn't a set.
    """
    return tuple(expand_by_name(specs, progress=progress))


def is_set(spec: str) -> bool:
    """Whether a text names a set of kernels."""
    return spec.startswith(_PREFIX)


def expand_by_name(specs: Iterable[str], *, progress: Progress = silent, of: str = "") -> dict[str, str]:
    """As :func:`expand`, and for each spec a name that outlives an update: the spec as it was given.

    Of a set that is the newest of each series the name is the series, ``debian:6.12``.

    :param specs: Specs of kernels, or ``set:NAME``.
    :param progress: Called with a line where an index is read.
    :param of: The set that the specs were once found for, after which they are named.
    :raises KernelError: a set is a query, and there is no index to ask.
    :raises UsageError: there is no such set, or its file isn't a set.
    """
    given = tuple(specs)
    check((*given, *([of] if of else ())))
    _read_indexes(given, progress=progress)
    found: dict[str, str] = {}
    for spec in given:
        own = spec.removeprefix(_PREFIX) if is_set(spec) else ""
        named_by = own or of.removeprefix(_PREFIX)
        by_series = bool(named_by) and _content(named_by) == _OF_EACH_SERIES
        for each in kernel_set(own, progress=progress) if own else (spec,):
            found.setdefault(each, _series_of(each) if by_series else each)
    return found


def _series_of(spec: str) -> str:
    """The series of an exact kernel, as a spec: ``debian:6.12`` of ``debian:6.12.94+deb13-cloud-amd64``."""
    match = re.match(r"debian:\d+\.\d+", spec)
    return spec if match is None else match[0]


def check(specs: Iterable[str]) -> None:
    """Check the specs that the user wrote, before anything is looked up.

    :param specs: Specs of kernels, or ``set:NAME``.
    :raises UsageError: a text is no spec, or there is no such set.
    """
    for spec in specs:
        if spec.startswith(_PREFIX):
            _content(spec.removeprefix(_PREFIX))
        else:
            parse(spec)


def kernel_set(name: str, *, progress: Progress = silent) -> tuple[str, ...]:
    """The specs of the set in ``kernels/NAME.toml``: its ``kernels``, or the results of its ``query``.

    :param name: The name of the set, without ``set:``.
    :param progress: Called with a line where an index is read.
    :raises UsageError: there is no such set, the file isn't a set, or the cache has no kernel for it.
    :raises KernelError: the set is a query, and there is no index to ask.
    """
    content = _content(name)
    if not isinstance(content, str):
        return content
    if content == _IN_THE_CACHE:
        found = _in_the_cache(name)
    else:
        found = _QUERIES[content](every(cache=resources.cache_directory(), progress=progress))
    return tuple(dict.fromkeys(f"debian:{kernel.release}" for kernel in found))


def _content(name: str) -> str | tuple[str, ...]:
    """The query of a set of kernels, or its specs.

    :param name: The name of the set, without ``set:``.
    :raises UsageError: there is no such set, or the file isn't a set.
    """
    path = resources.kernel_sets() / f"{name}.toml"
    known = sorted(file.stem for file in resources.kernel_sets().glob("*.toml"))
    if name not in known:
        raise UsageError(f"no set of kernels is called {name!r}{unknown(name, known)}")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: not a set of kernels: {error}") from None
    queries = (*_QUERIES, _IN_THE_CACHE)
    match content:
        case {"query": str(query)} if len(content) == 1 and query in queries:
            return query
        case {"kernels": [_, *_] as kernels} if len(content) == 1 and all(
            isinstance(each, str) for each in kernels
        ):
            return tuple(kernels)
    raise UsageError(
        f'{path}: a set has either kernels, a list of specs such as ["debian:bookworm"], or query, one of '
        f"{', '.join(queries)}"
    )


def _in_the_cache(name: str) -> list[Kernel]:
    kept = kept_kernels(resources.cache_directory(), source_hash(resources.guest_sources()))
    found = in_order(kernel for kernel in kept if kernel.cloud)
    if not found:
        raise UsageError(
            f"{_PREFIX}{name}: the cache has no kernel; get one with memtype kernels fetch or cache import"
        )
    return found


def _read_indexes(specs: Sequence[str], *, progress: Progress) -> None:
    """Have the indexes that several specs take read at once; a wrong spec is left to later checks.

    So a mirror that can't be reached gives one line, which names all indexes that will be used.
    """
    wanted: set[str] = set()
    with suppress(UsageError):
        for spec in specs:
            wanted.update(_suites(spec))
    if wanted:
        with suppress(KernelError):
            ordered = [suite for suite in SUITES if suite in wanted]
            indexes(ordered, cache=resources.cache_directory(), progress=progress)


def _suites(spec: str) -> Iterator[str]:
    """The suites whose indexes are certainly needed for a spec."""
    if spec.startswith(_PREFIX):
        content = _content(spec.removeprefix(_PREFIX))
        if content in _QUERIES:
            yield from SUITES
        elif not isinstance(content, str):
            for each in content:
                yield from _suites(each)
        return
    parsed = parse(spec)
    if isinstance(parsed, DebianSpec) and parsed.release is None:
        yield from suites_of(parsed)
