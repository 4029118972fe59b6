"""The attempts of a bisection as tasks of a cluster: a worker for each kernel of a round."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

import pytest

from pytest_memtype.bisect.attempt import UNKNOWN, Attempt, NodeSelector, find_test
from pytest_memtype.cluster import luggage
from pytest_memtype.cluster.dispatch import ClusterRun, Worker
from pytest_memtype.cluster.luggage import Piece
from pytest_memtype.cluster.scheduler import checked_address, connected
from pytest_memtype.cluster.tasks import Case, Task
from pytest_memtype.host.progress import Progress, Remark
from pytest_memtype.kernels import mirror
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.run.blame import ATTRIBUTE, Blame
from pytest_memtype.run.options import LOCAL

_SECONDS: Final = 90.0
"""Seconds of an attempt. Its limit follows: an hour, for a cold fetch and build, and three tries."""

# A guest, the one that is started ahead, and pytest. What the test's own guest takes isn't known here.
_MEMORY: Final = 2 * Hardware().memory_bytes + (400 << 20)


@contextlib.contextmanager
def attempts_on(given: str, test: str, *, insecure: bool, progress: Progress) -> Iterator[ClusterAttempts]:
    """Attempts on the workers of a cluster, for a bisection.

    :param given: The address of its scheduler, a scheduler file, or ``local``.
    :param test: pytest's node id, without a kernel.
    :param insecure: The user takes another machine's scheduler without TLS.
    :param progress: Called with lines about the workers.
    :raises UsageError: the address can't be used, or there is no such test.
    :raises HostError: nobody answers there, or no worker can run guests.
    """
    if given != LOCAL:
        checked_address(given, insecure=insecure)
    wants = _Attempts(find_test(test), progress)
    cores = len(os.sched_getaffinity(0))
    with connected(given, insecure=insecure, workers=cores, memory=_MEMORY) as client:
        course = ClusterRun(
            client, wants, accelerator="auto", package=luggage.package(), local=given == LOCAL
        )
        try:
            course.prepare()
            yield ClusterAttempts(course, wants)
        finally:
            course.close()


class ClusterAttempts:
    """Tries tests on kernels by a cluster, as :func:`~pytest_memtype.bisect.apart.try_apart` does here.

    :param course: The run on the cluster.
    :param wants: What takes its answers.
    """

    def __init__(self, course: ClusterRun, wants: _Attempts) -> None:
        self._course, self._wants = course, wants

    @property
    def at_once(self) -> int:
        """How many kernels the workers can try at once."""
        return self._course.slots

    def try_all(self, specs: Sequence[str]) -> Generator[tuple[str, Attempt]]:
        """Try the test on kernels, all of them at once; gives each spec with its attempt as it is done.

        :param specs: The kernels' exact specs.
        :raises HostError: the scheduler is gone, or no worker is left.
        """
        cases = [Case(spec, variant=spec, place="", together="", seconds=_SECONDS) for spec in specs]
        with contextlib.closing(self._course.run(cases)) as looks:
            for _ in looks:
                yield from self._wants.taken()
            yield from self._wants.taken()


class _Attempts:
    """The course of a bisection as a run of tasks: a task is a kernel, named by its spec.

    :param test: The test.
    :param progress: Called with lines for the user.
    """

    def __init__(self, test: NodeSelector, progress: Progress) -> None:
        self._test, self._progress = test, progress
        self._made: list[tuple[str, Attempt]] = []
        self._sent: dict[str, Piece] = {}
        self._said: set[str] = set()
        root = Path.cwd()
        self._tests = luggage.tests(root, _settings(root, test.file), [test.file])
        self._name = f"{os.path.relpath(test.file, root)}::{test.name}"

    def taken(self) -> list[tuple[str, Attempt]]:
        """The attempts that are done, each given once."""
        made, self._made = self._made, []
        return made

    def request(self, task: Task) -> tuple[dict[str, Any], list[Piece]]:
        """The request for an attempt, and what has to travel with it."""
        (spec,) = task.nodeids
        sent = self._sent.get(spec)
        request = {
            "ask": "attempt",
            "kernel": spec,
            "bundle": sent.name if sent else "",
            "facts": {},
            "tests": self._tests.piece.name,
            "root": self._tests.root,
            "test": self._name,
            "offline": mirror.is_offline(),
            "paths": [str(Path.cwd())],
            "memory": _MEMORY,
        }
        return request, [self._tests.piece, *([sent] if sent else [])]

    def lacks(self, task: Task, why: str) -> bool:
        """Have a kernel travel that a worker can't get by itself; whether that is possible."""
        (spec,) = task.nodeids
        return luggage.send_too(spec, self._sent, why, say=self.say, progress=self._progress)

    def done(self, nodeid: str, reports: list[dict[str, Any]]) -> None:
        """Take an attempt, and show what pytest has printed of it."""
        (made,) = reports
        sys.stderr.write(made["output"])
        trouble = made[ATTRIBUTE] == Blame.HOST
        self._made.append((nodeid, Attempt(made["answer"], tuple(made["tries"]), made["reason"], trouble)))

    def failed(self, nodeid: str, why: str, *, host: bool) -> None:
        """Take a kernel on which no worker could try the test."""
        self._made.append((nodeid, Attempt(UNKNOWN, (UNKNOWN,), why, host)))

    def logs(self, logs: dict[PurePosixPath, bytes]) -> None:
        """Take no logs: an attempt sends none."""

    def kept(self, nodeid: str, worker: str, name: str) -> None:
        """Note no logs: an attempt keeps none."""

    def say(self, line: str) -> None:
        """Tell the user a line, once."""
        if line not in self._said:
            self._said.add(line)
            self._progress(Remark(line))

    def progress(self, workers: Sequence[Worker]) -> None:
        """Draw nothing: each attempt is said when it is done."""


def _settings(root: Path, file: Path) -> Path | None:
    """The file of pytest's settings for a test, as pytest finds it."""

    class Asks:
        found: Path | None = None

        @pytest.hookimpl(tryfirst=True)
        def pytest_cmdline_main(self, config: pytest.Config) -> int:
            Asks.found = config.inipath
            return 0

    options = ["--rootdir", str(root), "--noconftest", "-p", "no:cacheprovider"]
    pytest.main([*options, str(file)], plugins=[Asks()])
    return Asks.found
