"""A disk that is full, without filling one."""

from __future__ import annotations

import contextlib
import resource
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def files_at_most(size: int) -> Iterator[None]:
    """No file may grow over ``size`` bytes: RLIMIT_FSIZE, as ``ulimit -f`` sets it.

    It holds for the whole process and what it starts, so the guest of the next test, which a thread starts
    ahead, must have started before: QEMU writes more than that.
    """
    for thread in threading.enumerate():
        if thread.name == "memtype-next-guest":
            thread.join()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
