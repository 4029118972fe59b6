"""Ctrl-C while threads work: it comes as one exception, at the end, and no thread is left waiting."""

from __future__ import annotations

import signal
import threading

import pytest

from pytest_memtype.kernels.in_threads import in_threads


def test_a_ctrl_c_is_not_lost_when_all_is_done() -> None:
    with pytest.raises(KeyboardInterrupt):
        in_threads(lambda _: signal.raise_signal(signal.SIGINT), [1], at_once=1)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_elsewhere_than_in_the_main_thread_it_works_too() -> None:
    results: list[list[int]] = []
    thread = threading.Thread(target=lambda: results.append(in_threads(abs, [-1, 2], at_once=2)))
    thread.start()
    thread.join(60)
    assert results == [[1, 2]]


def test_the_first_items_exception_comes() -> None:
    def work(item: int) -> int:
        if item:
            raise ValueError(item)
        return item

    with pytest.raises(ValueError, match=r"^1$"):
        in_threads(work, [0, 1, 2], at_once=3)
