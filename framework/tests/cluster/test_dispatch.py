"""The course of a run, by what workers answer and when: a stub of Dask's client lets tests decide that."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pytest

from pytest_memtype.cluster import dispatch, luggage
from pytest_memtype.cluster.dispatch import ClusterRun, Worker
from pytest_memtype.cluster.luggage import Piece
from pytest_memtype.cluster.tasks import Case, Task
from pytest_memtype.errors import HostError
from pytest_memtype.run.blame import Blame

KERNEL = "debian:6.1.0-1"
ABLE = {
    "able": {"qemu": "10.0", "kvm": False, "python": "3.13", "package": "", "room": 1 << 40, "remark": ""}
}


class _Future:
    def __init__(self, request: dict[str, Any], how: dict[str, Any]) -> None:
        self.request, self.how = request, how
        self.status = "pending"
        self.result: bytes | None = None
        self._callbacks: list[Callable[[_Future], None]] = []

    def add_done_callback(self, callback: Callable[[_Future], None]) -> None:
        self._callbacks.append(callback)

    def release(self) -> None: ...

    def answer(self, *lines: dict[str, Any]) -> None:
        self.status = "finished"
        self.result = zlib.compress(b"\n".join(json.dumps(line).encode() for line in lines))
        for callback in self._callbacks:
            callback(self)


class _Client:
    """Dask's client as far as a run uses it; what is submitted is pending until the test answers it."""

    def __init__(self, *workers: str) -> None:
        self.status = "running"
        self.workers: dict[str, dict[str, Any]] = {each: {"resources": {"qemu": 1}} for each in workers}
        self.submitted: list[_Future] = []

    def known_workers(self) -> dict[str, dict[str, Any]]:
        return self.workers

    def executes(self, worker: str, tasks: int) -> None:
        """A worker says with its next heartbeat how many tasks run there."""
        self.workers[worker]["metrics"] = {"task_counts": {"executing": tasks}}

    def submit(self, function: Callable[..., object], *arguments: Any, **how: Any) -> _Future:
        if function is bytes:
            return _Future({}, how)
        self.submitted.append(_Future(arguments[0], how))
        return self.submitted[-1]

    def answers(self, futures: Sequence[_Future]) -> list[tuple[_Future, bytes | None]]:
        return [(future, future.result) for future in futures]

    def pending(self, ask: str) -> list[_Future]:
        return [each for each in self.submitted if each.result is None and each.request["ask"] == ask]


class _Wants:
    """A run that notes what comes back, and has kernels travel as all runs do."""

    def __init__(self) -> None:
        self.sent: dict[str, Piece] = {}
        self.passed: dict[str, list[dict[str, Any]]] = {}
        self.given_up: dict[str, tuple[str, bool]] = {}
        self.said: list[str] = []

    def request(self, task: Task) -> tuple[dict[str, Any], list[Piece]]:
        sent = self.sent.get(KERNEL)
        about = {"ask": "tests", "nodeids": list(task.nodeids), "memory": 0}
        return {**about, "bundle": sent.name if sent else ""}, [sent] if sent else []

    def lacks(self, task: Task, why: str) -> bool:
        return luggage.send_too(task.variant, self.sent, why, say=self.say, progress=self.say)

    def done(self, nodeid: str, reports: list[dict[str, Any]]) -> None:
        self.passed[nodeid] = reports

    def failed(self, nodeid: str, why: str, *, host: bool) -> None:
        self.given_up[nodeid] = (why, host)

    def logs(self, logs: dict[PurePosixPath, bytes]) -> None: ...

    def kept(self, nodeid: str, worker: str, name: str) -> None: ...

    def say(self, line: str) -> None:
        self.said.append(line)

    def progress(self, workers: Sequence[Worker]) -> None: ...


def _course(client: Any, wants: _Wants) -> ClusterRun:
    course = ClusterRun(client, wants, accelerator="auto", package=Piece("package", b""), local=False)
    course._greet()
    for question in client.pending("preflight"):
        question.answer(ABLE)
    course.prepare()
    return course


def _cases(count: int) -> list[Case]:
    """Tests that take so long that each is a task."""
    return [Case(f"test_a.py::test_{number}", KERNEL, "", "", 30.0) for number in range(count)]


def _reports(future: _Future, **more: Any) -> list[dict[str, Any]]:
    about = {"$report_type": "TestReport", "when": "teardown", "outcome": "passed", "duration": 0.1}
    about |= {"sections": [], "keywords": {}, "longrepr": None, **more}
    return [{"report": {**about, "nodeid": nodeid}} for nodeid in future.request["nodeids"]]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    # The answers are there when a run looks for them.
    monkeypatch.setattr(dispatch, "_LOOK_SECONDS", 0.0)


@dataclass
class _Clock:
    now: float = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    clock = _Clock()
    monkeypatch.setattr(dispatch, "time", clock)
    return clock


@pytest.fixture
def travels(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine has the kernel that the workers lack."""
    monkeypatch.setattr(luggage, "bundle", lambda *_, **__: None)
    monkeypatch.setattr(luggage, "exported", lambda spec: Piece("exported", spec.encode()))


def _asking(client: Any, wants: _Wants, clock: _Clock) -> ClusterRun:
    """A run that has asked its worker what it can do; half a minute goes by at each look for the answer."""
    course = ClusterRun(client, wants, accelerator="auto", package=Piece("package", b""), local=False)
    course._greet()
    receive = course._receive

    def later() -> None:
        clock.now += 30
        receive()

    vars(course)["_receive"] = later
    return course


def test_a_worker_that_never_says_what_it_can_do(clock: _Clock) -> None:
    client, wants = _Client("one"), _Wants()
    course = _asking(client, wants, clock)
    with pytest.raises(HostError, match="no worker of the cluster can run guests"):
        course.prepare()
    assert wants.said == ["worker one gets no tests: no answer in time"]


def test_a_worker_that_dies_before_it_says_what_it_can_do(clock: _Clock) -> None:
    client, wants = _Client("one"), _Wants()
    course = _asking(client, wants, clock)
    client.workers.clear()
    with pytest.raises(HostError, match="the cluster has no workers"):
        course.prepare()


@pytest.mark.usefixtures("travels")
def test_all_tasks_in_flight_are_rescued_when_workers_lack_their_kernel() -> None:
    client, wants = _Client("one", "two"), _Wants()
    course = _course(client, wants)
    rounds = course.run(_cases(5))
    next(rounds)
    # Four are asked for before the first answer is there.
    assert len(client.pending("tests")) == 4
    for future in client.pending("tests"):
        future.answer({"lacks": KERNEL, "why": "no mirror"})
    for _ in rounds:
        for future in client.pending("tests"):
            assert future.request["bundle"] == "exported"
            future.answer(*_reports(future))
    assert (len(wants.passed), wants.given_up) == (5, {})
    assert wants.said == [f"{KERNEL} is sent to the workers: no mirror"]


@pytest.mark.usefixtures("travels")
def test_a_task_whose_kernel_has_travelled_in_vain_is_given_up() -> None:
    client, wants = _Client("one"), _Wants()
    course = _course(client, wants)
    for _ in course.run(_cases(1)):
        for future in client.pending("tests"):
            future.answer({"lacks": KERNEL, "why": "no space left"})
    assert wants.given_up == {"test_a.py::test_0": ("no space left", True)}
    assert [each.request["bundle"] for each in client.submitted[1:]] == ["", "exported"]


def _silent(client: _Client, wants: _Wants) -> tuple[Generator[None], _Future]:
    """A run whose one worker is asked again, for it failed a test as a host, and does another meanwhile."""
    rounds = _course(client, wants).run(_cases(2))
    next(rounds)
    first, second = client.pending("tests")
    first.answer(*_reports(first, memtype_blame=Blame.GUEST))
    client.executes("one", 1)
    next(rounds)
    assert len(client.pending("preflight")) == 1
    return rounds, second


def test_a_worker_is_asked_how_it_is_before_it_gets_further_tests() -> None:
    client = _Client("one")
    _silent(client, _Wants())
    (question,) = client.pending("preflight")
    assert question.how["priority"] > max(each.how["priority"] for each in client.pending("tests"))


def test_a_worker_that_does_a_long_test_keeps_its_facts_until_it_can_answer(clock: _Clock) -> None:
    client, wants = _Client("one"), _Wants()
    rounds, running = _silent(client, wants)
    for _ in range(3):
        clock.now += 400
        next(rounds)
    assert wants.said == []
    running.answer(*_reports(running))
    client.pending("preflight")[0].answer(ABLE)
    for _ in rounds:
        for future in client.pending("tests"):
            future.answer(*_reports(future))
    assert (len(wants.passed), wants.given_up) == (2, {})


def test_one_that_is_silent_and_does_nothing_gets_no_more_tests(clock: _Clock) -> None:
    client, wants = _Client("one"), _Wants()
    rounds, _ = _silent(client, wants)
    client.executes("one", 0)
    next(rounds)
    clock.now += 400
    next(rounds)
    assert wants.said == ["worker one gets no tests: no answer in time"]
    next(rounds)
    clock.now += 61
    with pytest.raises(HostError, match="no worker that can run guests is left"):
        next(rounds)


def test_a_run_waits_for_a_test_that_runs_on_a_worker_which_gets_no_more(clock: _Clock) -> None:
    client, wants = _Client("one"), _Wants()
    rounds, running = _silent(client, wants)
    client.pending("preflight")[0].answer({"unable": "its disk is full"})
    for _ in range(3):
        next(rounds)
        clock.now += 61
    running.answer(*_reports(running))
    next(rounds)
    assert list(wants.passed) == running.request["nodeids"]
    client.executes("one", 0)
    next(rounds)
    with pytest.raises(HostError, match="no worker that can run guests is left"):
        next(rounds)


def test_a_worker_that_could_never_run_tests_is_not_waited_for(clock: _Clock) -> None:
    """It runs another user's."""
    client, wants = _Client("one"), _Wants()
    rounds, _ = _silent(client, wants)
    client.workers["two"] = {"resources": {"qemu": 1}}
    next(rounds)
    for each in client.pending("preflight"):
        each.answer({"unable": "it has no QEMU"})
    client.executes("two", 1)
    client.workers.pop("one")
    next(rounds)
    next(rounds)
    clock.now += 61
    with pytest.raises(HostError, match="no worker that can run guests is left"):
        next(rounds)


def test_it_waits_no_longer_than_a_test_may_take(clock: _Clock) -> None:
    """What runs there may be another's, and none of this run's tests can begin there."""
    client, wants = _Client("one"), _Wants()
    rounds, _ = _silent(client, wants)
    client.pending("preflight")[0].answer({"unable": "its disk is full"})
    next(rounds)
    next(rounds)
    clock.now += 900 + 30 * 30.0
    next(rounds)
    clock.now += 1
    with pytest.raises(HostError, match="no worker that can run guests is left"):
        next(rounds)


def test_tasks_of_workers_that_are_gone_are_not_waited_for(clock: _Clock) -> None:
    client, wants = _Client("one"), _Wants()
    rounds = _course(client, wants).run(_cases(1))
    client.executes("one", 1)
    next(rounds)
    client.workers.clear()
    next(rounds)
    next(rounds)
    clock.now += 61
    with pytest.raises(HostError, match="no worker that can run guests is left"):
        next(rounds)
