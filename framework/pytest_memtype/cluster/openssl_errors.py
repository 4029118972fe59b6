"""A preload for Dask's programs, this package's own among them: an error ends no connection but its own.

From OpenSSL 3.4 on a peer that goes without a goodbye is an error of the system, and Python (3.12.9, 3.13.2
and later) raises it without taking it out of OpenSSL's queue, which belongs to the thread. The next read of
another connection finds it there, and a healthy connection is closed with BrokenPipeError
(https://github.com/python/cpython/issues/148594, open in 2026). A nanny of Dask goes so, when it has started
its worker, and the scheduler then loses its client: six of eight runs on Debian 13.
"""

from __future__ import annotations

import contextlib
import functools
import ssl
from collections.abc import Callable
from typing import Any, Final

from tornado.iostream import SSLIOStream

_context: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def dask_setup(_program: object) -> None:
    """Called by Dask when a scheduler, worker or nanny that preloads this file starts.

    :param _program: The scheduler, worker or nanny.
    """
    install()


def install() -> None:
    """Have OpenSSL's queue of this thread emptied when a read or a write of TLS fails. Again does nothing."""
    for name in ("read_from_fd", "write_to_fd"):
        function = getattr(SSLIOStream, name)
        if not hasattr(function, "__wrapped__"):
            setattr(SSLIOStream, name, _emptying(function))


def _emptying(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        try:
            return function(*args)
        except OSError:
            _empty()
            raise

    return wrapper


def _empty() -> None:
    # The one call of Python's that does nothing else: it empties the queue when no cipher has the name.
    with contextlib.suppress(ssl.SSLError):
        _context.set_ciphers("none-of-them")
