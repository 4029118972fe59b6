"""Work on several kernels or indexes at a time, which Ctrl-C ends at any moment."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

from pytest_memtype.kernels.mmdebstrap import interrupt, nobody

T = TypeVar("T")
R = TypeVar("R")

_LOOK_SECONDS = 0.1


def in_threads(
    work: Callable[[T], R], items: Sequence[T], *, at_once: int, stop: Callable[[], object] = nobody
) -> list[R]:
    """The results of ``work`` for each item, in the items' order; it runs in threads.

    A second Ctrl-C gives what the threads wait for no time to clear up.

    :param work: Called with an item, in a thread.
    :param items: The items, at least one.
    :param at_once: The most items that are worked on at a time.
    :param stop: Called when Ctrl-C or an exception comes before the end, and before what the threads wait
        for is interrupted.
    :raises KeyboardInterrupt: Ctrl-C was pressed, and no thread works any more.
    :raises BaseException: the exception of ``work`` for the first item that has one.
    """
    stopped = threading.Event()

    def one(item: T) -> R:
        if stopped.is_set():
            raise KeyboardInterrupt
        return work(item)

    with _ctrl_c_counted() as pressed, ThreadPoolExecutor(at_once, thread_name_prefix="kernel") as pool:
        working: list[Future[R]] = []
        try:
            for item in items:
                working.append(pool.submit(one, item))
            results = []
            for each in working:
                while wait((each,), timeout=_LOOK_SECONDS).not_done and not pressed():
                    pass
                if pressed():
                    raise KeyboardInterrupt
                results.append(each.result())
            return results
        except BaseException:
            stopped.set()
            stop()
            pool.shutdown(wait=False, cancel_futures=True)
            _interrupt(working, pressed)
            raise


def _interrupt(working: Sequence[Future[R]], pressed: Callable[[], int]) -> None:
    """Interrupt what threads wait for until they are done: one may be about to start its mmdebstrap."""
    before = pressed()
    # A future that was cancelled before a thread took it is never done for wait() (Python 3.11 to 3.14).
    begun = [each for each in working if not each.cancelled()]
    while True:
        interrupt(signal.SIGTERM if pressed() == before else signal.SIGKILL)
        if not wait(begun, timeout=_LOOK_SECONDS).not_done:
            return


@contextlib.contextmanager
def _ctrl_c_counted() -> Generator[Callable[[], int]]:
    """Count Ctrl-C in place of an exception, and give the function that tells the count.

    An exception that comes while this thread holds a lock of :mod:`concurrent.futures`, as
    :func:`~concurrent.futures.wait` does at its start, leaves it locked for ever (Python 3.11 to 3.14), and a
    thread that wants it never ends. Outside the main thread no Ctrl-C comes, and
    nothing is counted.
    """
    presses: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    # A job in a shell's background ignores Ctrl-C.
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield lambda: len(presses)
        return
    signal.signal(signal.SIGINT, lambda number, _: presses.append(number))
    try:
        yield lambda: len(presses)
    finally:
        signal.signal(signal.SIGINT, before)
    if presses:
        raise KeyboardInterrupt
