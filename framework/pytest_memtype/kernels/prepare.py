"""Preparation of several kernels at once: download and build."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from pytest_memtype.errors import HostError, MemtypeError, reason
from pytest_memtype.host import resources
from pytest_memtype.host.store import clear_workshops
from pytest_memtype.kernels.bundle import Bundle, bundle
from pytest_memtype.kernels.in_threads import in_threads
from pytest_memtype.kernels.stage import Stage, Step

WORKERS = 2
"""The number of kernels in one stage at a time. While two are downloaded and unpacked, others are built:
neither the network nor the processors wait for the other."""


@dataclass(frozen=True)
class Status:
    """The progress of one kernel.

    :param spec: The spec of the kernel.
    :param stage: How far it is.
    :param text: The present work on it, or why it failed.
    :param seconds: Seconds that each finished stage took, by stage.
    :param made: The bundle; None before ``ready``.
    :param error: The reason for ``failed``; None otherwise.
    """

    spec: str
    stage: Stage = Stage.WAITING
    text: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    made: Bundle | None = None
    error: MemtypeError | None = None


def ignore(status: Status) -> None:
    """Ignore a change, for a caller that shows no progress."""


def prepare(
    specs: Iterable[str],
    *,
    on_change: Callable[[Status], None] = ignore,
    workers: int = WORKERS,
) -> list[Status]:
    """Fetch and build kernels, several at a time. A failure of one doesn't stop the others.

    What was finished before an interruption is found in the cache, so that a repetition goes on from there.

    :param specs: The specs of the kernels.
    :param on_change: Called from any thread, one call at a time.
    :param workers: Number of kernels that are downloaded at a time, and number of those that are built.
    :returns: the end of each: ``ready`` with its bundle, or ``failed`` with its error; in the order of the
        specs.
    """
    clear_workshops(resources.cache_directory())
    telling = threading.Lock()
    stopping = threading.Event()
    turns = {stage: threading.Semaphore(workers) for stage in (Stage.DOWNLOADING, Stage.BUILDING)}

    def one(spec: str) -> Status:
        status = Status(spec)
        since = time.monotonic()
        turn = contextlib.ExitStack()

        def become(stage: Stage, **changes: object) -> None:
            nonlocal status, since
            now = time.monotonic()
            seconds = {**status.seconds, status.stage: status.seconds.get(status.stage, 0.0) + now - since}
            since = now
            status = replace(status, stage=stage, seconds=seconds, **changes)  # type: ignore[arg-type]
            with telling:
                on_change(status)

        def progress(text: str) -> None:
            turn.close()
            stage = text.stage if isinstance(text, Step) else Stage.WAITING
            if stage not in turns:
                become(Stage.WAITING, text=text)
            else:
                become(Stage.WAITING, text="")
                turn.enter_context(turns[stage])
                become(stage, text=text)
            if stopping.is_set():
                raise KeyboardInterrupt

        try:
            with turn:
                made = bundle(spec, progress=progress)
            become(Stage.READY, made=made, text="" if made.module else "without the module")
        except (MemtypeError, OSError) as problem:
            if stopping.is_set():
                # Its work was ended by the interruption.
                raise KeyboardInterrupt from None
            error = (
                problem
                if isinstance(problem, MemtypeError)
                else HostError(f"kernel {spec!r}: {reason(problem)}")
            )
            become(Stage.FAILED, error=error, text=error.message)
        return status

    return in_threads(one, list(specs), at_once=len(turns) * workers, stop=stopping.set)
