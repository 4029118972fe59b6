"""A run of a small suite that is disturbed at points which a seed chooses, and what is wrong afterwards.

Every fault is made while the test that it hits stands still at one of its points, so that the same seed makes
the same faults at the same places. A stop that ends again lasts a moment.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import select
import signal
import socketserver
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from memtype_support.chaos_suite import CONFTEST, POINTS, SUITE, TESTS
from memtype_support.mounts import OWN_MOUNTS

Point = dict[str, Any]

#: Seconds that a process stands still and then goes on, and that all may take to be gone afterwards.
MOMENT, PATIENCE = 0.3, 120

#: In the order of the file, and with nothing fetched, tried or remembered.
OPTIONS: Final = ("-p", "no:cacheprovider", "-p", "no:randomly", "--accel", "tcg", "--offline", "-q")

#: What a record says that doesn't depend on which guest it was.
COMPARED: Final = (
    *("operation", "actor", "requested", "region", "memory", "mtrr", "beside", "verdict", "kernel_answer"),
    *("granted", "effective", "result"),
)

CHANGED_BELOW: Final = "somebody has changed it while a guest ran"


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    :param weight: How often it is chosen.
    :param named: What must be said of the test that it ended; None where it may end none.
    :param shell: What the guest does itself.
    """

    weight: float
    named: str | None = None
    shell: str = ""


KINDS: Final = {
    "qemu KILL": Kind(8, r"was killed by SIGKILL"),
    "qemu SEGV": Kind(4, r"was killed by SIGSEGV"),
    "qemu STOP": Kind(0.3, r"GuestHung"),
    "qemu moment": Kind(4),
    "worker KILL": Kind(2, r"crashed while running"),
    "worker SEGV": Kind(1, r"crashed while running"),
    "worker moment": Kind(2),
    "launcher KILL": Kind(3),
    "launcher STOP": Kind(0.3),
    "pytest KILL": Kind(0.7),
    "pytest moment": Kind(1),
    "template below a guest": Kind(0.7, CHANGED_BELOW),
    "noise on the agent's port": Kind(3, r"AgentError|GuestHung", "head -c 3000 /dev/urandom > /dev/ttyS1"),
    "answers nobody asked for": Kind(
        *(3, r"AgentError|GuestHung"),
        """for n in 0 1 2 99999 -1; do echo "@$n {} *00000000"; echo '@1 {"log": [' ; done > /dev/ttyS1""",
    ),
    "no end of a line": Kind(2, r"AgentError|GuestHung", "head -c 200000 /dev/zero > /dev/ttyS1"),
    "words of QEMU's on the console": Kind(
        2, None, """printf '\\033[2J\\0{"event": "SHUTDOWN"}\\r\\nQMP\\n' > /dev/ttyS0"""
    ),
    "flood of the console": Kind(1, r"GuestFlooded", "yes Flooded > /dev/ttyS0 & sleep 1"),
}


def damage(path: Path, chance: random.Random, *, many: int = 2000) -> None:
    """Flip bytes of a file's contents, and set its time back: as a disk does, not as a program."""
    before = path.stat()
    with path.open("r+b") as file:
        start = os.lseek(file.fileno(), 0, os.SEEK_DATA) if before.st_size else 0
        end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
        for _ in range(many if before.st_size > 100_000 else 1):
            place = chance.randrange(start, end)
            file.seek(place)
            (byte,) = file.read(1)
            file.seek(place)
            file.write(bytes([byte ^ 1 << chance.randrange(8)]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _launchers(worker: int) -> Iterator[int]:
    """The processes of a worker that wait to become QEMU."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            parent = int((process / "stat").read_text().rpartition(") ")[2].split()[1])
            if parent == worker and (process / "cmdline").read_bytes().split(b"\0")[1] == b"--version":
                yield int(process.name)


def _signal(pid: int, name: str) -> None:
    with contextlib.suppress(ProcessLookupError):
        if name != "moment":
            os.kill(pid, signal.Signals[f"SIG{name}"])
            return
        os.kill(pid, signal.SIGSTOP)

        def go_on() -> None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

        threading.Timer(MOMENT, go_on).start()


@dataclass
class Round:
    """One run of the suite.

    :param folder: A new one, for this run alone.
    :param plan: What happens where, by test and point.
    :ivar made: The faults that were made.
    """

    folder: Path
    cache: Path
    kernel: str
    workers: int
    plan: dict[tuple[int, int], str]
    seed: int
    before: tuple[str, ...] = ()
    only: str = ""
    small_disk: bool = False
    made: list[tuple[int, str]] = field(default_factory=list)
    output: str = ""
    _pytest: int = 0

    def run(self) -> None:
        """Run it to its end."""
        self.folder.mkdir()
        (self.folder / "temporary").mkdir()
        (self.folder / "test_suite.py").write_text(SUITE)
        (self.folder / "conftest.py").write_text(CONFTEST)
        command = [sys.executable, "-m", "pytest", *OPTIONS, "--kernel", self.kernel, "-n", str(self.workers)]
        command += ["-k", self.only] if self.only else []
        if self.small_disk:
            script = 'mount -t tmpfs -o size=32m none "$0" && exec "$@"'
            command = [*OWN_MOUNTS, "sh", "-c", script, str(self.cache / "templates"), *command]
        with self._listening(), (self.folder / "output").open("wb") as output:
            process = subprocess.Popen(
                ["prlimit", "--core=0", *command],
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
            self._pytest = process.pid
            try:
                process.wait(timeout=10 * PATIENCE)
            finally:
                process.kill()
                process.wait()
        self.output = (self.folder / "output").read_text(errors="replace")

    def _environment(self) -> dict[str, str]:
        own = {"MEMTYPE_CACHE": self.cache, "TMPDIR": self.folder / "temporary", "CHAOS": self.folder}
        plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        return {**plain, **{name: str(value) for name, value in own.items()}}

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        make = self._make

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                told = json.loads(self.rfile.readline())
                answer = json.dumps({"shell": make(told)}).encode() + b"\n"
                # Whoever asked may have been ended by it.
                with contextlib.suppress(OSError):
                    self.wfile.write(answer)

        with socketserver.ThreadingUnixStreamServer(str(self.folder / "line"), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()

    def _make(self, told: Point) -> str:
        """Make the fault of a point; what the guest is to do for it."""
        name = self.plan.get((told["test"], told["point"]))
        if name is None:
            return ""
        what, _, how = name.partition(" ")
        match what:
            case "qemu" | "worker":
                _signal(told[what], how)
            case "pytest":
                _signal(self._pytest, how)
            case "launcher":
                for pid in _launchers(told["worker"]):
                    _signal(pid, how)
            case "template":
                if not told["ram"]:
                    return ""
                with contextlib.suppress(FileNotFoundError):
                    damage(Path(told["ram"]), random.Random(f"{self.seed} {told['test']}"))
        self.made.append((told["test"], name))
        return KINDS[name].shell

    # What came of it.

    @property
    def killed(self) -> bool:
        """Whether pytest itself was, and could say nothing any more."""
        return any(
            name == "pytest KILL" or (not self.workers and name in ("worker KILL", "worker SEGV"))
            for _, name in self.made
        )

    def outcomes(self) -> dict[int, tuple[str, str]]:
        """Of each test that ended: how, and what was said of it."""
        found: dict[int, tuple[str, str]] = {}
        file = self.folder / "outcomes"
        for line in file.read_text().splitlines() if file.exists() else ():
            entry = json.loads(line)
            number = int(re.findall(r"\[(?:.*-)?(\d+)(?:-.*)?\]", entry["test"].replace(self.kernel, ""))[0])
            bad = entry["outcome"] != "passed"
            if bad or (entry["when"] == "call" and number not in found):
                text = found.get(number, ("", ""))[1] + entry["text"]
                found[number] = ("failed" if bad else "passed", text)
        return found

    def records(self) -> dict[int, list[dict[str, Any]]]:
        """Of each test: what was recorded, without what the guest was told to do as a fault."""
        found: dict[int, list[dict[str, Any]]] = {}
        for file in (self.folder / ".memtype").glob("runs/*/records.jsonl"):
            for line in file.read_text().splitlines():
                record = json.loads(line)
                if record["operation"] != "shell":
                    number = int(re.findall(r"\d+", record["case"])[-1])
                    found.setdefault(number, []).append({key: record.get(key) for key in COMPARED})
        return found

    def left(self) -> list[str]:
        """What is there that shouldn't be, once everybody has had the time to go."""
        mark = os.fsencode(str(self.folder))
        for _ in range(2):
            waiting = list(_marked(mark))
            for pid in waiting:
                with contextlib.suppress(ProcessLookupError):
                    ends = os.pidfd_open(pid)
                    select.select([ends], [], [], PATIENCE)
                    os.close(ends)
        return [
            *(f"process {pid}: {_command(pid)}" for pid in _marked(mark)),
            *(str(path) for path in (self.folder / "temporary").glob("memtype-*")),
        ]


def _marked(mark: bytes) -> Iterator[int]:
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"CHAOS=" + mark + b"\0" in (process / "environ").read_bytes():
                yield int(process.name)


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:200]
    return "gone"


def wrong(done: Round, good: dict[int, list[dict[str, Any]]]) -> list[str]:
    """All that is wrong with a disturbed run, each in a line."""
    found = [f"left: {each}" for each in done.left()]
    outcomes, records = done.outcomes(), done.records()
    hit: dict[int, list[str]] = {}
    for test, name in done.made:
        hit.setdefault(test, []).append(name)
    below = any(name == "template below a guest" for _, name in done.made)
    for test in range(TESTS):
        if done.only and done.only != f"{test}]":
            continue
        kinds = hit.get(test, [])
        outcome, text = outcomes.get(test, ("never", ""))
        expected, got = good[test], records.get(test, [])
        if outcome == "never" and not done.killed:
            found.append(f"test {test} has no outcome, after {kinds}")
        if outcome == "passed" and got != expected and not done.killed:
            found.append(f"test {test} passed with other records, after {kinds}: {_first(got, expected)}")
        if outcome == "failed":
            names = [KINDS[kind].named for kind in kinds] + ([CHANGED_BELOW] if below else [])
            if not any(name and re.search(name, text) for name in names):
                found.append(f"test {test} failed, after {kinds}, and this was said: {text[-600:]}")
        if got != expected[: len(got)]:
            found.append(f"test {test} has wrong records, after {kinds}: {_first(got, expected)}")
    if not done.killed and "INTERNALERROR" in done.output:
        found.append(f"pytest broke: {done.output[-2000:]}")
    # A worker that is killed takes with it what it had to say.
    silenced = done.killed or any(name in ("worker KILL", "worker SEGV") for _, name in done.made)
    for each in done.before:
        if each not in done.output and not silenced:
            found.append(f"not said: {each}")
    return found


def _first(got: list[dict[str, Any]], expected: list[dict[str, Any]]) -> str:
    for number, (one, other) in enumerate(zip(got, expected, strict=False)):
        if one != other:
            keys = [key for key in one if one[key] != other[key]]
            return f"step {number}: {[(key, one[key], other[key]) for key in keys]}"
    return f"{len(got)} records, not {len(expected)}"


def planned(chance: random.Random, *, workers: int) -> dict[tuple[int, int], str]:
    """Faults for most tests of a run, at most one each; what ends the run comes late."""
    names = [name for name in KINDS if workers or not name.startswith("worker ")]
    weights = [KINDS[name].weight for name in names]
    plan = {}
    for test in range(TESTS):
        (name,) = chance.choices(names, weights)
        if name == "pytest KILL" and test < TESTS - 3:
            name = "qemu KILL"
        if chance.random() < 0.9:
            plan[test, chance.randrange(POINTS)] = name
    return plan


def count(rounds: list[Round]) -> Counter[str]:
    """How many faults of each kind were made."""
    return Counter(name for each in rounds for _, name in each.made)
