"""Logs of tests that passed on a cluster, from the machine that keeps them: ``memtype evidence --test``.

The workers of that machine are asked, and not the one that ran the test: when its nanny has started it anew,
it has another address and the same cache.
"""

from __future__ import annotations

import queue
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from distributed import Future

from pytest_memtype.cluster import bootstrap
from pytest_memtype.cluster.answer import Answer, take_kept, write_logs
from pytest_memtype.cluster.journal import Kept, kept_of
from pytest_memtype.cluster.scheduler import ByValue, CarefulClient, connected
from pytest_memtype.errors import AnswerLost, AnswerRefused, HostError, UsageError, reason
from pytest_memtype.host.progress import Progress
from pytest_memtype.run.folder import has_shared_guests, module_of, test_folder
from pytest_memtype.run.kept_logs import LIMIT
from pytest_memtype.run.options import LOCAL

_SECONDS: Final = 120.0
"""How long busy workers are waited for: a task of tests takes half a minute."""

_AGAIN: Final = "run the test again with --keep-logs"


def fetch(run: Path, test: str, *, scheduler: str | None, insecure: bool, progress: Progress) -> Path:
    """Put the logs of a test into the run's folder, where they aren't there already; gives their folder.

    :param run: The run's folder.
    :param test: The test's node id.
    :param scheduler: The address of the cluster's scheduler, its file, or ``local``; None: the run's.
    :param insecure: The user takes another machine's scheduler without TLS.
    :param progress: Called with a line when workers are asked.
    :raises UsageError: the run has no such test, or was on no cluster; or the address can't be used.
    :raises HostError: nobody has the logs any more, or answers as it should.
    """
    own, module = test_folder(run, test), module_of(test)
    if own.is_dir():
        return own
    try:
        kept = kept_of(run, test)
    except UsageError:
        # Another test has failed that shared its guests.
        shared = sorted(each for each in run.iterdir() if has_shared_guests(each.name, module))
        if len(shared) == 1:
            return shared[0]
        if shared:
            names = ", ".join(each.name for each in shared)
            raise UsageError(
                f"{test}: it has left no logs of its own; if it shared guests with a test that failed, "
                f"they are in one of {names}"
            ) from None
        raise

    def of_test(folder: str) -> bool:
        return folder == own.name or has_shared_guests(folder, module)

    address = scheduler or kept.scheduler
    if address == LOCAL:
        # The workers are gone, and had this machine's cache.
        answer = _judged(bootstrap.work(_request(kept), {}), kept, of_test)
        found = _first([("this machine", answer)], kept)
    else:
        with connected(address, insecure=insecure, workers=1) as client:
            found = _first(_answers(client, address, kept, of_test, progress), kept)
    try:
        write_logs(run, found.logs)
    except BaseException as error:
        # What is there would be taken for all of it the next time.
        shutil.rmtree(own, ignore_errors=True)
        if isinstance(error, OSError):
            raise HostError(f"{run}: a log can't be written ({reason(error)})") from None
        raise
    return run / next(iter(found.logs)).parts[0]


def _request(kept: Kept) -> dict[str, Any]:
    return {"ask": "kept", "run": kept.run, "name": kept.name}


def _first(answers: Iterable[tuple[str, Answer | Exception]], kept: Kept) -> Answer:
    """The first answer that has the logs.

    :param answers: Who answers, and what.
    :param kept: Where the logs should be.
    :raises HostError: none has them; the message has the reason of one that refuses them, if there is one.
    """
    trouble, last = "", ""
    for last, answer in answers:
        if isinstance(answer, AnswerRefused):
            trouble = f"what {last} answers was refused: {answer}"
        elif isinstance(answer, TimeoutError):
            # It comes last: what another worker has said weighs more.
            trouble = trouble or str(answer)
        elif isinstance(answer, Exception):
            trouble = trouble or f"{last} has gone before it answered; try again"
        elif answer.unable:
            trouble = trouble or f"{last} can't read its logs: {answer.unable}"
        elif not answer.lacks:
            return answer
    lost = f"{last} has its logs no more, as a machine keeps the newest {LIMIT >> 20} MiB; {_AGAIN}"
    raise HostError(f"{kept.test}: {trouble or lost}")


def _answers(
    client: CarefulClient, address: str, kept: Kept, of_test: Callable[[str], bool], progress: Progress
) -> Iterator[tuple[str, Answer | Exception]]:
    """Answers of the workers of the machine that ran the test, each with the address of its worker.

    A TimeoutError comes last, if some haven't answered.
    """
    host = _host_of(kept.worker)
    try:
        known = client.known_workers()
    except Exception as error:
        raise HostError(f"the scheduler doesn't answer ({' '.join(str(error).split())[:120]})") from None
    workers = [each for each in known if host and _host_of(each) == host]
    if not workers:
        raise HostError(
            f"{kept.test}: it ran on worker {kept.worker}, and {address} has no worker on that machine any "
            f"more; start one there, or {_AGAIN}"
        )
    progress(f"asking {host} for the logs of {kept.test}")
    answered: queue.Queue[Future] = queue.Queue()
    asked: dict[Future, str] = {}
    for worker in workers:
        # Before other people's tests, if it is busy with them.
        future = client.submit(
            ByValue(bootstrap.work), _request(kept), {}, workers=[worker], priority=1_000_000, pure=False
        )
        asked[future] = worker
        future.add_done_callback(answered.put)
    end = time.monotonic() + _SECONDS
    try:
        for _ in workers:
            future = answered.get(timeout=max(0.0, end - time.monotonic()))
            for _, result in client.answers([future]):
                yield asked[future], _judged(result, kept, of_test)
    except queue.Empty:
        busy = f"no answer from {host} in {_SECONDS:.0f} s, whose workers are busy"
        yield host, TimeoutError(f"{busy}; try again when their tests are over")


def _judged(result: object, kept: Kept, of_test: Callable[[str], bool]) -> Answer | Exception:
    if isinstance(result, AnswerRefused | AnswerLost):
        return result
    try:
        return take_kept(result, kept.name, of_test)
    except AnswerRefused as error:
        return error


def _host_of(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""
