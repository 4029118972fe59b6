"""A Dask cluster without guests: its workers answer after a time, with results as large as real ones.

Scheduler and connections are Dask's own, and the client is that of a run with ``--scheduler``. Many workers
share a process and its event loop, where each is an object that sleeps; so what is measured is all but the
work itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import multiprocessing
import os
import random
import tempfile
import time
import zlib
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path, PurePosixPath
from typing import Any

import dask
from distributed import Scheduler, Worker, get_worker

from pytest_memtype.cluster.dispatch import ClusterRun
from pytest_memtype.cluster.dispatch import Worker as RunWorker
from pytest_memtype.cluster.journal import note
from pytest_memtype.cluster.luggage import Piece, package
from pytest_memtype.cluster.scheduler import CarefulClient
from pytest_memtype.cluster.tasks import Case, Task

MEDIAN, SHORTEST, LONGEST = 20.0, 5.0, 60.0

# The standard deviation of the logarithm: one task in 70 is cut to LONGEST then, one in 360 to SHORTEST.
_SPREAD = 0.5

# What a worker asks of its process all the time, which a machine of its own has to do for one worker alone.
_QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.interval": "1h",
    "distributed.admin.tick.interval": "10s",
    "distributed.admin.tick.limit": "1h",
}
_PATIENT = {"distributed.comm.timeouts.connect": "120s", "distributed.comm.timeouts.tcp": "120s"}

# Workers that a process starts at once, and seconds until all of them are there.
_STARTED_AT_ONCE = 20
_START = 600.0

_VARIANTS = 8

# A test's node id, which each task has put in its place.
_TEST = "test_ram.py::test_it"


@dataclass(frozen=True)
class Load:
    """What a cluster is asked to do.

    :param workers: How many there are.
    :param tasks: How many they do.
    :param scale: What the times of tasks are multiplied by.
    :param processes: How many processes the workers share.
    :param input_bytes: Of a task's own input; what all tasks share is this package, as in a run.
    :param result_bytes: Of a result, compressed, about.
    """

    workers: int
    tasks: int
    scale: float = 1.0
    processes: int = 4
    input_bytes: int = 4 << 10
    result_bytes: int = 60 << 10


@dataclass(frozen=True)
class Measured:
    """How a cluster did.

    :param start_seconds: Until all workers were there.
    :param seconds: From the first submission to the last result.
    :param busy: The part of that time in which the workers worked, 0 to 1. What a task took longer than
        its time, because this machine was late, isn't work.
    :param scheduler_mib: The scheduler's memory at its peak.
    :param client_mib: The client's, which is this process, at its peak.
    :param scheduler_cpu: Seconds of processor time that the scheduler took.
    :param client_cpu: Seconds that the client took.
    :param workers_cpu: Seconds that the workers took, all together.
    """

    start_seconds: float
    seconds: float
    busy: float
    scheduler_mib: float
    client_mib: float
    scheduler_cpu: float
    client_cpu: float
    workers_cpu: float


def durations(count: int, *, scale: float = 1.0, seed: int = 1) -> list[float]:
    """Seconds that tasks take, the longest first: log-normal, cut at both ends, which leaves the median.

    :param count: How many tasks there are.
    :param scale: What the seconds are multiplied by.
    :param seed: Of the drawing.
    """
    drawing = random.Random(seed)
    drawn = (drawing.lognormvariate(math.log(MEDIAN), _SPREAD) for _ in range(count))
    return sorted((scale * min(max(each, SHORTEST), LONGEST) for each in drawn), reverse=True)


def records(size: int, seed: int) -> bytes:
    """The last line of a task's answer, as the server of a worker says it: a test's report with its records.

    :param size: Bytes that it has when it is compressed, about.
    :param seed: Of its content.
    """
    drawing = random.Random(seed)
    texts = dict.fromkeys(("kernel", "kernel_version", "tested", "case", "operation", "actor"), "x")
    fixed = {**texts, "schema": 2, "test": _TEST, "guest": 1, "hardware": {}, "arguments": {}}
    # One of these has 88 bytes when it is compressed.
    made = [{**fixed, "step": step, "address": drawing.randbytes(64).hex()} for step in range(size // 88)]
    return json.dumps({"report": _report("teardown", memtype_records=made)}).encode()


def _report(when: str, **more: object) -> dict[str, object]:
    about = {"$report_type": "TestReport", "nodeid": _TEST, "when": when, "outcome": "passed"}
    return {**about, "duration": 0.1, "sections": [], "keywords": {}, "longrepr": None, **more}


_made: dict[tuple[int, int], bytes] = {}


async def answer(request: dict[str, Any], luggage: dict[str, bytes]) -> bytes:
    """What a worker does with a request: it says that it can run guests, or sleeps for a task's time.

    :param request: The request.
    :param luggage: What has travelled with it.
    """
    assert all(luggage.values())
    if request["ask"] == "preflight":
        await get_worker().set_resources(**request["resources"])
        facts = {"qemu": "0.0", "kvm": False, "python": "", "package": "", "room": 0, "remark": ""}
        return zlib.compress(json.dumps({"able": facts}).encode(), 1)
    await asyncio.sleep(request["sleep"])
    (nodeid,) = request["nodeids"]
    which = (request["result_bytes"], int(nodeid) % _VARIANTS)
    # Not made anew: it would be the work of a guest's machine.
    if which not in _made:
        begun = [json.dumps({"start": _TEST}), json.dumps({"report": _report("call")})]
        _made[which] = "\n".join(begun).encode() + b"\n" + records(*which)
    return zlib.compress(_made[which].replace(_TEST.encode(), nodeid.encode()), 1)


class _Wants:
    """A run that wants tasks done, and notes what comes back.

    :param load: What they are.
    :param folder: Where it is noted.
    """

    def __init__(self, load: Load, folder: Path) -> None:
        self._load, self._folder = load, folder
        self._drawing = random.Random(0)
        self.seen: set[str] = set()

    def request(self, task: Task) -> tuple[dict[str, Any], list[Piece]]:
        own = self._drawing.randbytes(self._load.input_bytes // 2).hex()
        about = {"nodeids": list(task.nodeids), "sleep": task.seconds, "own": own, "memory": 0}
        return {"ask": "tests", "result_bytes": self._load.result_bytes, **about}, []

    def lacks(self, task: Task, why: str) -> bool:
        raise AssertionError(f"{task}: {why}")

    def done(self, nodeid: str, reports: list[dict[str, Any]]) -> None:
        self.seen.add(nodeid)
        note(self._folder, nodeid, reports)

    def failed(self, nodeid: str, why: str, *, host: bool) -> None:
        raise AssertionError(f"{nodeid}: {why} ({host=})")

    def logs(self, logs: dict[PurePosixPath, bytes]) -> None: ...

    def kept(self, nodeid: str, worker: str, name: str) -> None: ...

    def say(self, line: str) -> None:
        raise AssertionError(line)

    def progress(self, workers: Sequence[RunWorker]) -> None: ...


def measure(load: Load) -> Measured:
    """Start a cluster, have it do its load, and end it.

    :param load: What it is to do.
    """
    context = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="memtype-benchmark-"))
        stack.enter_context(dask.config.set(_PATIENT))
        start = time.monotonic()
        scheduler, pipe = stack.enter_context(_process(context, _scheduler, folder))
        address = pipe.recv()
        shares = [len(range(at, load.workers, load.processes)) for at in range(load.processes)]
        workers = [
            stack.enter_context(_process(context, _workers, folder, address, share))[0]
            for share in shares
            if share
        ]
        client = stack.enter_context(
            CarefulClient(address, timeout=60, set_as_default=False, deserializers=["msgpack", "error"])
        )
        client.wait_for_workers(load.workers, timeout=_START)
        wants = _Wants(load, Path(folder))
        course = ClusterRun(client, wants, accelerator="auto", package=package(), local=False, work=answer)
        course.prepare()
        started = time.monotonic()
        # The peak so far is forgotten: proc_pid_clear_refs(5).
        Path("/proc/self/clear_refs").write_text("5")
        cpu = [_cpu_seconds(pid) for pid in (scheduler, os.getpid())], sum(map(_cpu_seconds, workers))
        wanted = durations(load.tasks, scale=load.scale)
        # Each is a kernel of its own: nothing is put together.
        for _ in course.run([Case(f"{at}", f"{at}", "", "", each) for at, each in enumerate(wanted)]):
            pass
        assert len(wants.seen) == load.tasks
        seconds = time.monotonic() - started
        return Measured(
            start_seconds=started - start,
            seconds=seconds,
            busy=sum(wanted) / (seconds * load.workers),
            scheduler_mib=_peak_mib(scheduler),
            client_mib=_peak_mib(os.getpid()),
            scheduler_cpu=_cpu_seconds(scheduler) - cpu[0][0],
            client_cpu=_cpu_seconds(os.getpid()) - cpu[0][1],
            workers_cpu=sum(map(_cpu_seconds, workers)) - cpu[1],
        )


@contextlib.contextmanager
def _process(context: Any, part: Any, *arguments: object) -> Iterator[tuple[int, Connection]]:
    """A process that does a part of the cluster, and a pipe from it; it ends with the block, or with us."""
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(part, theirs, *arguments))
    process.start()
    theirs.close()
    try:
        yield process.pid, ours
    finally:
        ours.close()
        process.join(20)
        process.kill()
        process.join()


def _run(part: Any, pipe: Connection, *arguments: object) -> None:
    # Each worker tells of its start, in ten lines.
    logging.getLogger("distributed").setLevel(logging.ERROR)
    asyncio.run(part(pipe, *arguments))


async def _until_closed(pipe: Connection) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(pipe.fileno(), ended.set)
    await ended.wait()


async def _scheduler(pipe: Connection, _folder: str) -> None:
    with dask.config.set(_PATIENT):
        here = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
        async with Scheduler(port=0, dashboard=False, **here) as scheduler:
            pipe.send(scheduler.address)
            await _until_closed(pipe)
            # Workers would be told, one after the other, and end by themselves.
            os._exit(0)


async def _workers(pipe: Connection, folder: str, address: str, count: int) -> None:
    place = asyncio.Semaphore(_STARTED_AT_ONCE)

    async def start(number: int) -> None:
        async with place:
            await Worker(
                address,
                nthreads=1,
                memory_limit=0,
                resources={"qemu": 1},
                # In a folder that others share, each looks for what dead ones have left.
                local_directory=str(Path(folder) / f"{os.getpid()}-{number}"),
                # Else they listen to every interface.
                host="127.0.0.1",
                dashboard=False,
                dashboard_address="127.0.0.1:0",
            )

    with dask.config.set(_QUIET | _PATIENT):
        starting: list[Coroutine[Any, Any, None]] = [start(number) for number in range(count)]
        await asyncio.gather(*starting)
        await _until_closed(pipe)
        os._exit(0)


def _peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return int(fields["VmHWM"].split()[0]) / 1024


def _cpu_seconds(pid: int) -> float:
    # The name, in brackets, may hold anything; the state follows it: proc_pid_stat(5).
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
