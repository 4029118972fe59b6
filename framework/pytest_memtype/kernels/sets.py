"""Named sets of kernels: TOML files with a list of specs, or with a query to the mirror's indexes."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable

from pytest_memtype import resources
from pytest_memtype.errors import UsageError
from pytest_memtype.kernels.index import Kernel, every, newest_of_each_series
from pytest_memtype.progress import Progress, silent

DEFAULT = ("set:default",)
"""What is tested when nobody names a kernel."""

_PREFIX = "set:"

_QUERIES: dict[str, Callable[[list[Kernel]], list[Kernel]]] = {
    "newest-of-each-series": newest_of_each_series,
    "every-kernel": list,
}


def expand(specs: Iterable[str], *, progress: Progress = silent) -> tuple[str, ...]:
    """The specs, with ``set:NAME`` replaced by those of the set; none of them twice.

    :raises UsageError: there is no such set, or its file isn't one.
    :raises KernelError: a set is a query, and there is no index to ask.
    """
    expanded: list[str] = []
    for spec in specs:
        if spec.startswith(_PREFIX):
            expanded += kernel_set(spec.removeprefix(_PREFIX), progress=progress)
        else:
            expanded.append(spec)
    return tuple(dict.fromkeys(expanded))


def kernel_set(name: str, *, progress: Progress = silent) -> tuple[str, ...]:
    """The specs of the set in ``kernels/NAME.toml``: its ``kernels``, or what its ``query`` finds.

    :raises UsageError: there is no such set, or the file isn't one.
    :raises KernelError: it is a query, and there is no index to ask.
    """
    path = resources.kernel_sets() / f"{name}.toml"
    known = sorted(file.stem for file in resources.kernel_sets().glob("*.toml"))
    if name not in known:
        raise UsageError(f"no set of kernels is called {name!r}; known are {', '.join(known)}")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: not a set of kernels: {error}") from None
    match content:
        case {"query": str(query)} if len(content) == 1 and query in _QUERIES:
            found = _QUERIES[query](every(cache=resources.cache_directory(), progress=progress))
            return tuple(f"debian:{kernel.release}" for kernel in found)
        case {"kernels": [_, *_] as kernels} if len(content) == 1 and all(
            isinstance(each, str) for each in kernels
        ):
            return tuple(kernels)
    raise UsageError(
        f'{path}: a set has either kernels, a list of specs such as ["debian:bookworm"], or query, one of '
        f"{', '.join(_QUERIES)}"
    )
