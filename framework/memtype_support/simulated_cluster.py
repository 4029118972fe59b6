"""A Dask cluster without guests: its workers answer after a time, with results as large as real ones.

Scheduler, client and connections are Dask's own. Many workers share a process and its event loop, where each
is an object that sleeps; so what is measured is all but the work itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any

import dask
from distributed import Client, Future, Scheduler, Worker, as_completed

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

# Results that are fetched at once: the scheduler holds all of a gathering until its last one has come, and so
# does the client. A gathering takes as long as the slowest of its workers, so several are on their way.
_GATHERED = 64
_GATHERINGS = 8


@dataclass(frozen=True)
class Load:
    """What a cluster is asked to do.

    :param workers: How many there are.
    :param tasks: How many they do.
    :param scale: What the times of tasks are multiplied by.
    :param processes: How many processes the workers share.
    :param window: Tasks that are outstanding at most, for each worker; 0 submits all at once.
    :param direct: Does the client fetch results from the workers? Else they come through the scheduler.
    :param resource: Does a task ask for a resource? Dask's scheduler queues none that does.
    :param input_bytes: Of a task's own input.
    :param shared_bytes: Of the input that all tasks share.
    :param result_bytes: Of a result, compressed, about.
    """

    workers: int
    tasks: int
    scale: float = 1.0
    processes: int = 4
    window: float = 2.0
    direct: bool = False
    resource: bool = True
    input_bytes: int = 4 << 10
    shared_bytes: int = 1 << 20
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


def result(size: int, seed: int) -> bytes:
    """Records as a test's: lines of JSON, compressed.

    :param size: Bytes that it has, about.
    :param seed: Of its content.
    """
    drawing = random.Random(seed)
    lines: list[bytes] = []
    # A line of these has 84 bytes when it is compressed.
    while len(lines) * 84 < size:
        line = {
            "schema": 2,
            "test": "test_ram.py::test_it",
            "step": len(lines),
            "address": drawing.randbytes(64).hex(),
        }
        lines.append(json.dumps(line).encode())
    return zlib.compress(b"\n".join(lines), 1)


_made: dict[int, list[bytes]] = {}


async def answer(number: int, seconds: float, own: bytes, size: int, *, shared: bytes) -> bytes:
    """A task: the number, and a result of that size, after some seconds.

    :param number: The task's own.
    :param seconds: How long it takes.
    :param own: Its input.
    :param size: Bytes of the result.
    :param shared: The input of all tasks.
    """
    assert own
    assert shared
    await asyncio.sleep(seconds)
    # Not made anew: it would be the work of a guest's machine.
    if size not in _made:
        _made[size] = [result(size, seed) for seed in range(_VARIANTS)]
    return number.to_bytes(4) + _made[size][number % _VARIANTS]


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
        client = stack.enter_context(Client(address, timeout=60, direct_to_workers=load.direct))
        client.wait_for_workers(load.workers, timeout=_START)
        started = time.monotonic()
        # The peak so far is forgotten: proc_pid_clear_refs(5).
        Path("/proc/self/clear_refs").write_text("5")
        cpu = [_cpu_seconds(pid) for pid in (scheduler, os.getpid())], sum(map(_cpu_seconds, workers))
        records = stack.enter_context((Path(folder) / "records").open("wb"))
        worked = _drive(client, load, records)
        seconds = time.monotonic() - started
        return Measured(
            start_seconds=started - start,
            seconds=seconds,
            busy=worked / (seconds * load.workers),
            scheduler_mib=_peak_mib(scheduler),
            client_mib=_peak_mib(os.getpid()),
            scheduler_cpu=_cpu_seconds(scheduler) - cpu[0][0],
            client_cpu=_cpu_seconds(os.getpid()) - cpu[0][1],
            workers_cpu=sum(map(_cpu_seconds, workers)) - cpu[1],
        )


def _drive(client: Client, load: Load, records: IO[bytes]) -> float:
    """Submit all tasks and take all results; the seconds that the tasks took, all together."""
    drawing = random.Random(0)
    [shared] = client.scatter([drawing.randbytes(load.shared_bytes)], broadcast=False)
    wanted = durations(load.tasks, scale=load.scale)
    resources = {"qemu": 1} if load.resource else None

    def submit(numbers: range) -> Sequence[Future]:
        inputs = [drawing.randbytes(load.input_bytes) for _ in numbers]
        sizes = [load.result_bytes] * len(numbers)
        seconds = [wanted[number] for number in numbers]
        keys = [f"answer-{number}" for number in numbers]
        futures: Sequence[Future] = client.map(
            answer, numbers, seconds, inputs, sizes, key=keys, shared=shared, resources=resources, pure=False
        )
        return futures

    window = math.ceil(load.window * load.workers) or load.tasks
    submitted = min(window, load.tasks)
    completed = as_completed(submit(range(submitted)), loop=client.loop)
    seen: set[int] = set()
    with ThreadPoolExecutor(_GATHERINGS) as threads:
        while len(seen) < load.tasks:
            batch = completed.next_batch()
            # What takes their places is on its way before the results are.
            more = range(submitted, min(submitted + len(batch), load.tasks))
            if more:
                completed.update(submit(more))
                submitted = more.stop
            parts = [batch[at : at + _GATHERED] for at in range(0, len(batch), _GATHERED)]
            for each in itertools.chain.from_iterable(threads.map(client.gather, parts)):
                seen.add(int.from_bytes(each[:4]))
                for line in zlib.decompress(each[4:]).splitlines():
                    json.loads(line)
                records.write(each)
    assert seen == set(range(load.tasks))
    return sum(wanted)


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
