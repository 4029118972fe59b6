"""A Dask cluster of processes on this host, as an administrator starts it, and commands that use it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from distributed import Client

from pytest_memtype.host.child import dying_with_us

_DASK = Path(sys.executable).with_name("dask")
_SECONDS = 60.0


@dataclass
class DaskCluster:
    """A scheduler and workers.

    :param place: A folder for the scheduler file and what they print.
    :param port: The scheduler's port; 0 takes a free one.
    """

    place: Path
    port: int = 0
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        return self.place / "scheduler.json"

    def scheduler(self) -> None:
        """Start the scheduler, and wait until it listens."""
        self.file.unlink(missing_ok=True)
        host = ("--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard")
        self.start("scheduler", ["scheduler", *host, "--scheduler-file", str(self.file)])
        end = time.monotonic() + _SECONDS
        while not self.file.exists() and time.monotonic() < end:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.processes["scheduler"].wait(0.1)

    def worker(self, name: str, *, resources: str = "qemu=1", environment: Mapping[str, str] = {}) -> None:
        """Start a worker with a nanny, which starts it anew when it dies."""
        # A scheduler that is down for a moment is waited for.
        options = ("--nthreads", "1", "--name", name, "--death-timeout", "60", "--no-dashboard")
        command = ["worker", "--scheduler-file", str(self.file), *options]
        command += ["--local-directory", str(self.place / "work")]
        if resources:
            command += ["--resources", resources]
        self.start(name, command, {"MEMTYPE_WORKER_ROOT": "1", **environment})

    def joined(self) -> None:
        """Wait until all its workers have joined: a run begins with those that are there.

        :raises TimeoutError: they haven't within a minute.
        """
        count = sum(name != "scheduler" for name in self.processes)
        with Client(scheduler_file=str(self.file)) as client:
            client.wait_for_workers(count, timeout=_SECONDS)

    def left(self, name: str) -> None:
        """Wait until the scheduler has noticed that a worker was stopped: one of the same name may join then.

        :raises TimeoutError: it hasn't within a minute.
        """
        end = time.monotonic() + _SECONDS
        with Client(scheduler_file=str(self.file)) as client:
            while True:
                known = client.sync(client.scheduler.identity)["workers"].values()
                if name not in {each["name"] for each in known}:
                    return
                if time.monotonic() > end:
                    raise TimeoutError(f"{self.place}: worker {name} is still there")

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str] = {}) -> None:
        with (self.place / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [*dying_with_us(), str(_DASK), *command],
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
                start_new_session=True,
            )

    def stop(self, name: str, *, by: signal.Signals = signal.SIGKILL) -> None:
        """End one of its programs, with all that it has started."""
        process = self.processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, by)
        process.wait(_SECONDS)

    @contextlib.contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """One of its programs stands still meanwhile, with all that it has started."""
        group = self.processes[name].pid
        os.killpg(group, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(group, signal.SIGCONT)

    def close(self) -> None:
        for name in list(self.processes):
            self.stop(name)


@contextlib.contextmanager
def dask_cluster(place: Path, workers: Sequence[str]) -> Iterator[DaskCluster]:
    """A cluster of a scheduler and workers with these names."""
    cluster = DaskCluster(place)
    try:
        cluster.scheduler()
        for name in workers:
            cluster.worker(name)
        yield cluster
    finally:
        cluster.close()


def run_tests(
    folder: Path, *arguments: str, seconds: float = 240, environment: Mapping[str, str] = {}
) -> subprocess.CompletedProcess[str]:
    """Run pytest in a folder of tests, as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:random_order", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment},
    )
