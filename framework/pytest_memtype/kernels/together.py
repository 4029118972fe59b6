"""Work on several kernels or indexes at a time, which Ctrl-C ends at any moment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from pytest_memtype.kernels.mmdebstrap import interrupt_all, nobody

T = TypeVar("T")
R = TypeVar("R")


def together(
    work: Callable[[T], R], items: Sequence[T], *, at_once: int, stop: Callable[[], object] = nobody
) -> list[R]:
    """The results of ``work`` for each item, in the items' order; it runs in threads.

    :param work: Called with an item, in a thread.
    :param items: The items, at least one.
    :param at_once: The most items that are worked on at a time.
    :param stop: Called when an exception, such as Ctrl-C, comes before the end, and before what the threads
        wait for is interrupted.
    :raises BaseException: the exception of ``work`` for the first item that has one.
    """
    begin = threading.Event()
    stopped = threading.Event()

    def one(item: T) -> R:
        # Ctrl-C may come while threads are being started. None of them does anything before all are known
        # here, where they are ended.
        begin.wait()
        if stopped.is_set():
            raise KeyboardInterrupt
        return work(item)

    pool = ThreadPoolExecutor(at_once, thread_name_prefix="kernel")
    working: list[Future[R]] = []
    try:
        for item in items:
            working.append(pool.submit(one, item))
        begin.set()
        return [each.result() for each in working]
    except BaseException:
        # Ctrl-C reaches this thread alone.
        stopped.set()
        begin.set()
        stop()
        pool.shutdown(wait=False, cancel_futures=True)
        interrupt_all(working)
        raise
    finally:
        begin.set()
        pool.shutdown(cancel_futures=True)
