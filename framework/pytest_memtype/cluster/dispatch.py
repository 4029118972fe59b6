"""The course of a run on a cluster: which tasks are given to Dask when, and what becomes of their answers.

Dask chooses the worker. This hands it no more tasks than twice what can run at once, for a worker that joins
late, or a task that has to be run again, shall not wait behind all others; so its scheduler stays small, too.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import math
import queue
import secrets
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any, Final, Protocol

from distributed import Future

from pytest_memtype.cluster import bootstrap
from pytest_memtype.cluster.answer import Answer, take
from pytest_memtype.cluster.luggage import Piece
from pytest_memtype.cluster.scheduler import ByValue, CarefulClient
from pytest_memtype.cluster.tasks import Case, Task, cut, halves
from pytest_memtype.errors import AnswerLost, AnswerRefused, HostError
from pytest_memtype.run.blame import ATTRIBUTE, Blame

DEATHS: Final = 3
"""A test whose process has died so often isn't run again; nor is one that the host failed so often."""

_LOOK_SECONDS: Final = 1.0
_PREFLIGHT_SECONDS: Final = 180.0
_JOIN_SECONDS: Final = 60.0
"""How long a run waits for a worker where none is left: one that died is started anew within seconds."""

_FIRST: Final = 1_000_000
"""The priority of a question to a worker. It comes before each test, whose priority is its seconds."""

_LIMIT_SECONDS: Final = 900.0
_QUEUE: Final = 2


@dataclass(frozen=True)
class _Flight:
    """A task that was handed to Dask.

    :param task: The task.
    :param bundle: The kernel that travelled with it, as its request names it; empty if none did.
    """

    task: Task
    bundle: str


@dataclass
class Worker:
    """A worker of the cluster.

    :ivar name: Its address.
    :ivar slots: How many tasks it runs at once.
    :ivar facts: What it has; None where it can't run guests.
    :ivar memory: Bytes that it declares; 0 where it declares none.
    :ivar is_at_work: It has said with its last heartbeat that a task runs there, of this run or another.
    :ivar was_able: It has been given tests, which may still run there.
    """

    name: str
    slots: int
    facts: dict[str, Any] | None = None
    memory: int = 0
    tests: int = 0
    is_at_work: bool = False
    was_able: bool = False


class Wants(Protocol):
    """The run of tests, which takes whatever comes back."""

    def request(self, task: Task) -> tuple[dict[str, Any], list[Piece]]:
        """The request for a task, and what has to travel with it."""

    def lacks(self, task: Task, why: str) -> bool:
        """Note that a worker hasn't got the task's kernel; whether it travels from now on."""

    def done(self, nodeid: str, reports: list[dict[str, Any]]) -> None:
        """Take a test's reports; this may raise to end the run."""

    def failed(self, nodeid: str, why: str, *, host: bool) -> None:
        """Take a test that could not be run; ``host`` says that no test is to blame."""

    def logs(self, logs: dict[PurePosixPath, bytes]) -> None:
        """Take the logs of failed tests."""

    def kept(self, nodeid: str, worker: str, name: str) -> None:
        """Note which worker keeps the logs of a test that passed, and under which name."""

    def say(self, line: str) -> None:
        """Tell the user a line, once."""

    def progress(self, workers: Sequence[Worker]) -> None:
        """Draw the progress, if that is due."""


@dataclass
class ClusterRun:
    """A run on a cluster.

    :param client: The client of its scheduler.
    :param wants: What the run does with what comes back.
    :param accelerator: The accelerator that the run wants, or ``auto``.
    :param package: This package.
    :param local: Whether the workers are this machine's, started for this run.
    :param work: What a worker does with a request and what travels with it; of simulated workers another.
    """

    client: CarefulClient
    wants: Wants
    accelerator: str
    package: Piece
    local: bool
    work: Callable[..., object] = bootstrap.work
    workers: dict[str, Worker] = field(default_factory=dict)
    _name: str = field(default_factory=lambda: f"memtype-{secrets.token_hex(6)}")
    _number: Iterator[int] = field(default_factory=itertools.count)
    _waiting: list[tuple[float, int, Task]] = field(default_factory=list)
    _flying: dict[Future, _Flight] = field(default_factory=dict)
    _asked: dict[Future, Worker] = field(default_factory=dict)
    _begun: dict[Future, float] = field(default_factory=dict)
    _sent: dict[str, Future] = field(default_factory=dict)
    _finished: queue.Queue[Future] = field(default_factory=queue.Queue)
    _deaths: Counter[str] = field(default_factory=Counter)
    _left: set[str] = field(default_factory=set)
    _greeted: float = -math.inf

    def prepare(self) -> None:
        """Ask each worker what it can do.

        :raises HostError: none can run guests; each has said why.
        """
        deadline = time.monotonic() + _JOIN_SECONDS
        while not any(worker.facts for worker in self.workers.values()):
            self._greet()
            if not self._asked and (self.workers or time.monotonic() > deadline):
                raise HostError(
                    "no worker of the cluster can run guests"
                    if self.workers
                    else "the cluster has no workers"
                )
            self._receive()
            self._watch()
        # The others join as they answer; at the start that is within the same second.
        end = time.monotonic() + 10
        while self._asked and time.monotonic() < end:
            self._receive()

    def run(self, cases: Sequence[Case]) -> Generator[None]:
        """Run tests, until each is told. Between two looks at the answers the caller has its turn.

        What still runs when the generator is closed is stopped within seconds.

        :param cases: The tests.
        :raises HostError: the scheduler is gone, or no worker is left.
        """
        self._left = {case.nodeid for case in cases}
        for task in cut(cases, max(1, self.slots)):
            self._put(task)
        alone: float | None = None
        try:
            while self._left:
                self._greet()
                self._submit()
                self._receive()
                self._watch()
                self.wants.progress(list(self.workers.values()))
                yield
                if self.slots or self._asked:
                    alone = None
                elif alone is None:
                    alone = time.monotonic()
                elif time.monotonic() - alone > self._patience:
                    raise HostError("no worker that can run guests is left")
                if not (self._waiting or self._flying) and self._left:
                    # Whatever the reason, no test is forgotten.
                    for nodeid in sorted(self._left):
                        self._give_up(nodeid, "no worker has answered for it", host=True)
        finally:
            _release(self._flying)
            self._flying.clear()
            self._waiting.clear()

    def close(self) -> None:
        """Have the workers forget what this run has sent them."""
        _release((*self._asked, *self._sent.values()))

    @property
    def slots(self) -> int:
        """How many tasks the workers run at once."""
        return sum(worker.slots for worker in self.workers.values() if worker.facts)

    @property
    def _patience(self) -> float:
        """Seconds in which a run without a worker goes on: tests that one was given before may still end."""
        if not any(worker.was_able and worker.is_at_work for worker in self.workers.values()):
            return _JOIN_SECONDS
        return max((_limit(flight.task) for flight in self._flying.values()), default=_JOIN_SECONDS)

    def _greet(self) -> None:
        """Take note of workers that have come or gone, and ask the new ones what they can do."""
        if self.client.status != "running":
            raise HostError("the connection to the scheduler is lost")
        if time.monotonic() < self._greeted + _LOOK_SECONDS:
            return
        self._greeted = time.monotonic()
        try:
            known = self.client.known_workers()
        except OSError:
            # Whether it is lost, the client's status tells the next time.
            return
        except HostError:
            raise
        except Exception as error:
            raise HostError(f"the scheduler doesn't answer ({' '.join(str(error).split())[:120]})") from None
        for name in self.workers.keys() - known.keys():
            gone = self.workers.pop(name)
            if gone.facts:
                self.wants.say(f"worker {name} is gone")
            # Dask goes on waiting for a worker of that name.
            for future in [future for future, worker in self._asked.items() if worker is gone]:
                del self._asked[future]
                future.release()
        for name in known.keys() - self.workers.keys():
            resources = known[name].get("resources") or {}
            self.workers[name] = Worker(
                name, max(1, int(resources.get("qemu", 1))), memory=int(resources.get("memory", 0))
            )
            self._ask(self.workers[name])
        for name, worker in self.workers.items():
            metrics = known[name].get("metrics") or {}
            worker.is_at_work = bool((metrics.get("task_counts") or {}).get("executing"))

    def _ask(self, worker: Worker) -> None:
        request = {
            "ask": "preflight",
            "package": self.package.name,
            "accelerator": self.accelerator,
            "root": self.local,
            "seconds": _PREFLIGHT_SECONDS,
            "resources": {self._name: 1},
        }
        future = self._call(request, [self.package], workers=[worker.name], priority=_FIRST)
        self._asked[future] = worker

    def _call(self, request: dict[str, Any], pieces: Sequence[Piece], **how: Any) -> Future:
        for piece in pieces:
            if piece.name not in self._sent:
                # Not scattered: what is computed comes back when the worker that had it dies.
                self._sent[piece.name] = self.client.submit(
                    bytes, piece.data, key=f"{self._name}-{piece.name[:16]}", pure=False
                )
        luggage = {piece.name: self._sent[piece.name] for piece in pieces}
        key = f"{self._name}-{next(self._number)}"
        future = self.client.submit(ByValue(self.work), request, luggage, key=key, pure=False, **how)
        self._begun[future] = time.monotonic()
        future.add_done_callback(self._finished.put)
        return future

    def _put(self, task: Task) -> None:
        heapq.heappush(self._waiting, (-task.seconds, next(self._number), task))

    def _submit(self) -> None:
        able = [worker for worker in self.workers.values() if worker.facts]
        while able and self._waiting and len(self._flying) < _QUEUE * self.slots:
            _, _, task = heapq.heappop(self._waiting)
            task = replace(task, nodeids=tuple(each for each in task.nodeids if each in self._left))
            if not task.nodeids:
                continue
            request, pieces = self.wants.request(task)
            resources = {"qemu": 1, self._name: 1}
            if self.accelerator == "kvm":
                resources["kvm"] = 1
            if all(worker.memory for worker in able):
                resources["memory"] = request["memory"]
                if request["memory"] > max(worker.memory for worker in able):
                    for nodeid in task.nodeids:
                        self._give_up(
                            nodeid,
                            f"its guests take {request['memory'] >> 20} MiB, more than a worker declares",
                            host=True,
                        )
                    continue
            request = {**request, "seconds": _limit(task), "package": self.package.name}
            future = self._call(
                request,
                [self.package, *pieces],
                resources=resources,
                priority=task.seconds,
                retries=0,
            )
            self._flying[future] = _Flight(task, request.get("bundle", ""))

    def _receive(self) -> None:
        """Wait a moment for answers, and take those that have come."""
        finished: list[Future] = []
        with contextlib.suppress(queue.Empty):
            finished.append(self._finished.get(timeout=_LOOK_SECONDS))
            while True:
                finished.append(self._finished.get_nowait())
        there = [future for future in finished if not self._has_no_answer(future)]
        for future, result in self.client.answers(there):
            self._finish(future, result)

    def _has_no_answer(self, future: Future) -> bool:
        """Whether nobody has an answer to a task; it is put back then, if it is still wanted."""
        if future.status != "cancelled" and (future in self._asked or future in self._flying):
            return False
        self._begun.pop(future, None)
        asked, flight = self._asked.pop(future, None), self._flying.pop(future, None)
        if (asked or flight) is not None and self.client.status != "running":
            raise HostError("the connection to the scheduler is lost")
        if flight is not None:
            self._put(flight.task)
        if asked is not None:
            self.workers.pop(asked.name, None)
        return True

    def _finish(self, future: Future, result: object) -> None:
        self._begun.pop(future, None)
        asked, flight = self._asked.pop(future, None), self._flying.pop(future, None)
        future.release()
        if isinstance(result, AnswerLost):
            # The worker that is gone is noticed, too; one that is there is asked again.
            if flight is not None:
                self._put(flight.task)
            if asked is not None:
                self.workers.pop(asked.name, None)
            return
        answer = _taken(result, flight.task.nodeids if flight is not None else ())
        if asked is not None:
            self._admit(asked, answer)
        elif flight is not None and isinstance(answer, AnswerRefused):
            self.wants.say(f"{_words(flight.task)}: the answer was refused: {answer}")
            self._again(flight.task, f"its answer was refused {DEATHS} times: {answer}")
        elif flight is not None and isinstance(answer, Answer):
            self._take(flight, answer)

    def _admit(self, worker: Worker, answer: Answer | AnswerRefused) -> None:
        if worker.name not in self.workers:
            return
        why = str(answer) if isinstance(answer, AnswerRefused) else answer.unable or answer.died
        facts = None if isinstance(answer, AnswerRefused) else answer.able
        if facts is None:
            worker.facts = None
            self.wants.say(f"worker {worker.name} gets no tests: {why or 'it has not answered'}")
            return
        none_before = not self.slots
        worker.facts = facts
        worker.was_able = True
        if facts["remark"]:
            self.wants.say(f"worker {worker.name}: {facts['remark']}")
        if none_before:
            # Dask looks at tasks without a worker when one joins, and not when it gets a resource (2026.8).
            for future, flight in list(self._flying.items()):
                del self._flying[future]
                future.release()
                self._put(flight.task)

    def _take(self, flight: _Flight, answer: Answer) -> None:
        task = flight.task
        self.wants.logs(answer.logs)
        for remark in answer.remarks:
            self.wants.say(remark)
        if answer.lacks and not answer.done:
            # Others of its kernel may have been asked for before that travelled: they try again with it.
            if flight.bundle or not self.wants.lacks(task, answer.lacks):
                for nodeid in task.nodeids:
                    self._give_up(nodeid, answer.lacks, host=True)
            self._put(task)
            return
        again: list[str] = []
        for nodeid, reports in answer.done.items():
            if nodeid not in self._left:
                continue
            if any(report.get(ATTRIBUTE, Blame.TEST) != Blame.TEST for report in reports):
                self._deaths[nodeid] += 1
                if self._deaths[nodeid] < DEATHS:
                    # A worker without room fails what runs well elsewhere.
                    again.append(nodeid)
                    continue
            self._left.discard(nodeid)
            if answer.worker and nodeid in answer.kept:
                self.wants.kept(nodeid, answer.worker, answer.kept[nodeid])
            self.wants.done(nodeid, reports)
        for nodeid in answer.missing:
            self._give_up(nodeid, answer.uncollected or "it isn't collected on the worker", host=False)
        if again:
            self._recheck()
        rest = tuple(each for each in task.nodeids if each in self._left)
        if not rest:
            return
        if answer.trouble is not None:
            for nodeid in rest:
                self._give_up(nodeid, answer.trouble[0], host=True)
            return
        left = replace(task, nodeids=rest, seconds=task.seconds * len(rest) / len(task.nodeids))
        why = answer.died or answer.unable or answer.uncollected or answer.said or "it was not run"
        if answer.running in rest:
            self._deaths[answer.running] += 1
            count = self._deaths[answer.running]
            self.wants.say(f"{answer.running}: {why} (time {count})")
            if count >= DEATHS:
                self._give_up(answer.running, f"killed {count} workers: {why}", host=False)
            else:
                self._put(Task(task.variant, (answer.running,), task.seconds / len(task.nodeids)))
            others = tuple(each for each in rest if each != answer.running)
            self._put(replace(left, nodeids=others))
        elif answer.done or again:
            self._put(left)
        else:
            self.wants.say(f"{_words(task)}: {why}")
            self._again(left, f"killed {DEATHS} workers: {why}")

    def _again(self, task: Task, why: str) -> None:
        """Have a task that came to nothing run again, in halves: so the test is found that is to blame."""
        for part in halves(task):
            if part.tries >= DEATHS:
                self._give_up(part.nodeids[0], why, host=False)
            else:
                self._put(part)

    def _give_up(self, nodeid: str, why: str, *, host: bool) -> None:
        if nodeid in self._left:
            self._left.discard(nodeid)
            self.wants.failed(nodeid, why, host=host)

    def _recheck(self) -> None:
        """Ask each worker again: one of them has failed a test as a host."""
        asked = {worker.name for worker in self._asked.values()}
        for worker in self.workers.values():
            if worker.facts and worker.name not in asked:
                self._ask(worker)

    def _watch(self) -> None:
        """Give tasks up that nobody answers for: their workers have a limit of their own, and an answer."""
        now = time.monotonic()
        for future, flight in list(self._flying.items()):
            # It may have waited for as long as another runs.
            if now - self._begun.get(future, now) > 4 * _limit(flight.task):
                del self._flying[future]
                future.release()
                self._again(flight.task, f"no worker has answered in time, {DEATHS} times")
        for future, worker in list(self._asked.items()):
            if now - self._begun.get(future, now) <= 2 * _PREFLIGHT_SECONDS:
                continue
            if worker.facts and worker.is_at_work:
                # A test may take longer than that, and the question waits for its end.
                self._begun[future] = now
            else:
                del self._asked[future]
                future.release()
                self._admit(worker, AnswerRefused("no answer in time"))


def _limit(task: Task) -> float:
    """Seconds after which its worker gives a task up."""
    return _LIMIT_SECONDS + 30 * task.seconds


def _taken(result: object, nodeids: Sequence[str]) -> Answer | AnswerRefused:
    if isinstance(result, AnswerRefused):
        return result
    try:
        return take(result, frozenset(nodeids))
    except AnswerRefused as error:
        return error


def _release(futures: Iterable[Future]) -> None:
    # Whatever a lost connection makes of it, it isn't why the run ends.
    with contextlib.suppress(Exception):
        for future in futures:
            future.release()


def _words(task: Task) -> str:
    first = task.nodeids[0]
    return first if len(task.nodeids) == 1 else f"{first} and {len(task.nodeids) - 1} others"
