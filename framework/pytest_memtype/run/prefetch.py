"""A prefetch of guests: the next one is started before it is asked for."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar

from pytest_memtype.host.memory import available_memory


class _HasMachine(Protocol):
    @property
    def machine(self) -> _Closes: ...


class _Closes(Protocol):
    @property
    def alive(self) -> bool: ...

    def close(self) -> None: ...


K = TypeVar("K")
G = TypeVar("G", bound=_HasMachine)

#: Bytes of memory that must be left over when a guest is started ahead.
SPARE_MEMORY: Final = 768 << 20


@dataclass(frozen=True)
class Ready(Generic[G]):
    """A guest, and how it was made: ``clone``, ``boot``, or ``boot, because...``."""

    guest: G
    how: str


class _Start(Generic[K, G]):
    """A guest that a thread is starting."""

    def __init__(self, make: Callable[[K, Path], Ready[G]], kind: K, logs: Path) -> None:
        self.kind = kind
        self.logs = logs
        self._ready: Ready[G] | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(
            target=self._run, args=(make,), name="memtype-next-guest", daemon=True
        )
        self._thread.start()

    def _run(self, make: Callable[[K, Path], Ready[G]]) -> None:
        try:
            self._ready = make(self.kind, self.logs)
        except BaseException as error:  # It is raised where the guest is asked for.
            self._error = error

    def result(self) -> Ready[G]:
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._ready is not None
        return self._ready

    def discard(self) -> None:
        self._thread.join()
        if self._ready is not None:
            self._ready.guest.machine.close()
        shutil.rmtree(self.logs, ignore_errors=True)


class GuestPrefetch(Generic[K, G]):
    """A starter of at most one guest ahead: with a worker per core two would only compete for the core.

    :param make: Called with a kind of guest and a folder for its logs; starts the guest. Called on another
        thread for a guest that is started ahead.
    """

    def __init__(self, make: Callable[[K, Path], Ready[G]]) -> None:
        self._make = make
        self._next: _Start[K, G] | None = None

    def expect(self, kind: K, logs: Path, *, memory: int) -> None:
        """Start a guest ahead, if the host has ``memory`` bytes for it and some to spare."""
        if self._next is None and available_memory() >= memory + SPARE_MEMORY:
            self._next = _Start(self._make, kind, logs)

    def take(self, kind: K, logs: Path) -> Ready[G]:
        """Take the guest that was started ahead if it is of this kind with these logs, else start one."""
        start = self._next
        if start is None:
            return self._make(kind, logs)
        # Kept until it is over: after Ctrl-C during the wait, close() ends the guest.
        if (start.kind, start.logs) == (kind, logs):
            try:
                ready = start.result()
            except Exception:
                self._next = None
                raise
            # A guest killed while it waited (by a host short of memory) is not the test's fault.
            if ready.guest.machine.alive:
                self._next = None
                return ready
        start.discard()
        self._next = None
        return self._make(kind, logs)

    def close(self) -> None:
        """End the guest that was started ahead and not asked for."""
        start, self._next = self._next, None
        if start is not None:
            start.discard()
