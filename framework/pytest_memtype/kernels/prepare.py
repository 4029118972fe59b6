"""Making several kernels ready at once."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from pytest_memtype.errors import MemtypeError
from pytest_memtype.host import resources
from pytest_memtype.host.store import clear_workshops
from pytest_memtype.kernels.bundle import Bundle, bundle
from pytest_memtype.kernels.stage import Stage, Step
from pytest_memtype.kernels.together import together

WORKERS = 2
"""How many kernels are in one stage at a time. While two are downloaded and unpacked, others are built:
neither the network nor the processors wait for the other."""


@dataclass(frozen=True)
class Status:
    """How far one kernel is.

    :param stage: How far it is.
    :param text: What it is doing, or why it failed.
    :param seconds: How long each stage took that is over.
    """

    spec: str
    stage: Stage = Stage.WAITING
    text: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    made: Bundle | None = None
    error: MemtypeError | None = None


def ignore(status: Status) -> None:
    """For a caller that shows no progress."""


def prepare(
    specs: Iterable[str],
    *,
    on_change: Callable[[Status], None] = ignore,
    workers: int = WORKERS,
) -> list[Status]:
    """Fetch and build kernels, several at a time. One that fails doesn't keep the others from being made.

    What was finished before an interruption is found in the cache, so that a repetition goes on from there.

    :param on_change: Called from any thread, one call at a time.
    :param workers: How many are downloaded at a time, and how many are built.
    :return: How each ended: ``ready`` with its bundle, or ``failed`` with its error; in the order of
        the specs.
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
        except MemtypeError as error:
            if stopping.is_set():
                # What it needed was ended for that.
                raise KeyboardInterrupt from None
            become(Stage.FAILED, error=error, text=error.message)
        return status

    return together(one, list(specs), at_once=len(turns) * workers, stop=stopping.set)
