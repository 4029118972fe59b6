"""The kernels that a run has without asking a mirror."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pytest_memtype.errors import Unreachable
from pytest_memtype.host import resources
from pytest_memtype.host.progress import Progress
from pytest_memtype.kernels import mirror
from pytest_memtype.kernels.bundle import bundle_path, find_kernel, source_hash
from pytest_memtype.kernels.fetch import kit_path
from pytest_memtype.kernels.index import Kernel
from pytest_memtype.kernels.spec import parse


def check_at_hand(kernels: Sequence[str], *, asked: Sequence[str], progress: Progress) -> None:
    """Check that a run which asks no mirror has all its kernels, so that it tests all of them or none.

    A run that may ask fetches what isn't there, and passes.

    :param kernels: Exact specs, as :func:`pytest_memtype.kernels.bundle.resolve` gives them.
    :param asked: The specs that the user wrote, for the message of an error.
    :param progress: Called with a line where an index is read.
    :raises Unreachable: kernels are not in the cache; one line names them all, and what to do.
    """
    reason = mirror.unasked()
    gone = missing(dict.fromkeys(kernels), progress=progress) if reason is not None else []
    if not gone:
        return
    count = len(set(kernels))
    if count == 1:
        which = f"{gone[0]} is not in the cache"
    else:
        which = f"{len(gone)} of {count} kernels are not in the cache ({', '.join(gone)})"
    others = ", or test those that the cache has (--kernel set:cached)" if len(gone) < count else ""
    raise Unreachable(
        f"{which}, and {reason}; get {'it' if len(gone) == 1 else 'them'} with the network (memtype kernels "
        f"fetch {' '.join(asked)}) or from another machine (memtype cache export, import){others}"
    )


def missing(specs: Iterable[str], *, progress: Progress) -> list[str]:
    """The specs, out of ``specs``, whose kernels can't be had without the network.

    A kernel that was built on this host counts as there.

    :param specs: Exact specs, as :func:`pytest_memtype.kernels.bundle.resolve` gives them.
    :param progress: Called with a line where an index is read.
    :raises KernelError: no index is there to look a kernel up in.
    """
    cache, sources = resources.cache_directory(), source_hash(resources.guest_sources())

    def is_there(kernel: Kernel) -> bool:
        # In a kit a bundle can be built, which takes no network.
        return bundle_path(kernel, sources, cache=cache).is_dir() or kit_path(kernel, cache=cache).is_dir()

    found = ((spec, find_kernel(parse(spec), sources, cache=cache, progress=progress)) for spec in specs)
    return [spec for spec, kernel in found if isinstance(kernel, Kernel) and not is_there(kernel)]
