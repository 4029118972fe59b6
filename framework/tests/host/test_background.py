import threading

from pytest_memtype.host import background


async def thread() -> threading.Thread:
    return threading.current_thread()


def test_one_thread_that_does_not_keep_python_from_ending() -> None:
    first, second = (background.submit(thread()).result() for _ in range(2))
    assert first is second
    assert first is not threading.current_thread()
    assert first.daemon
