"""A thread with an event loop, shared by all machines of this process.

QMP runs on it, and QEMU is started from it. The kernel sends PR_SET_PDEATHSIG when the *thread* that
started the child ends, so it has to be a thread that lives as long as the process does.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def submit(coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
    """Start ``coroutine`` on the background thread."""
    return asyncio.run_coroutine_threadsafe(coroutine, _loop(os.getpid()))


# Keyed by the process id, because a thread doesn't survive fork().
@functools.cache
def _loop(_pid: int) -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="memtype-background", daemon=True).start()
    return loop
