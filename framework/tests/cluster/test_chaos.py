"""A cluster under faults: each test has one verdict, the undisturbed one, and nothing is left over.

The faults come in the order and at the tests that the seed says: ``MEMTYPE_CHAOS_SEED``.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from memtype_support.dask_cluster import DaskCluster, run_tests

from pytest_memtype.host.resources import cache_directory

SEED = int(os.environ.get("MEMTYPE_CHAOS_SEED", "20"))
GUESTS, PLAIN = 6, 24
TESTS = GUESTS + PLAIN + 1
STOPPED_SECONDS = 30
STANDS_STILL = 240
"""Seconds without a test that is told. Of a stopped worker nobody knows for 30; two boot templates anew."""

SUITE = f"""
import time
from pathlib import Path
import pytest
from pytest_memtype import MemType


@pytest.mark.hardware(memory="96M")
@pytest.mark.parametrize("number", range({GUESTS}))
def test_maps(guest, number):
    bar = guest.mmio(pages=4)
    guest.driver("drm").ioremap(bar, (MemType.WC, MemType.UC_MINUS)[number % 2])
    guest.driver("fbdev").ioremap(bar, MemType.UC_MINUS)
    assert number != 3, "on purpose"


@pytest.mark.parametrize("number", range({PLAIN}))
def test_waits(number):
    # Long enough for a fault to meet it.
    time.sleep(0.5)
    assert number != 7, "on purpose"


def test_ends_last():
    # On a busy host the run would else be over before its scheduler is killed.
    end = time.monotonic() + {STANDS_STILL}
    while not Path("GATE").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
"""


def _verdicts(folder: Path) -> dict[str, str]:
    """The outcome of each test of the last run, by its journal: each test is there once."""
    found = []
    for line in (folder / ".memtype/latest/cluster.jsonl").read_text().splitlines():
        entry = json.loads(line)
        failed = any(report["outcome"] == "failed" for report in entry["reports"])
        found.append((entry["test"], "failed" if failed else "passed"))
    assert max(Counter(test for test, _ in found).values()) == 1
    return dict(found)


def _records(folder: Path) -> Counter[str]:
    lines = (folder / ".memtype/latest/records.jsonl").read_text().splitlines()
    return Counter(json.loads(line)["test"] for line in lines)


def _told(folder: Path) -> int:
    with contextlib.suppress(OSError):
        return len((folder / ".memtype/latest/cluster.jsonl").read_text().splitlines())
    return 0


def _wait_until_told(folder: Path, tests: int, run: subprocess.Popen[bytes]) -> None:
    """Wait until a run has told so many tests, or has ended."""
    end = time.monotonic() + STANDS_STILL
    while _told(folder) < tests:
        assert time.monotonic() < end, "the run stands still"
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.wait(0.05)
            return


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def _left_over(word: str, seconds: float) -> list[str]:
    """The processes with a word in their command or environment that don't end in time."""
    end = time.monotonic() + seconds
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            environment = (process / "environ").read_bytes().decode(errors="replace")
            if int(process.name) == os.getpid() or word not in command + environment:
                continue
            pidfd = os.pidfd_open(int(process.name))
            try:
                if not select.select([pidfd], [], [], max(0.0, end - time.monotonic()))[0]:
                    found.append(f"{process.name} {command[:200]}")
            finally:
                os.close(pidfd)
    return found


@contextlib.contextmanager
def _full_disk(place: Path) -> Iterator[dict[str, str]]:
    """The environment of a worker whose cache has no room, where a disk of its own can be had."""
    folder = place / "full"
    folder.mkdir(mode=0o700)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32m,mode=700", "none", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        yield {}
        return
    try:
        yield {"MEMTYPE_CACHE": str(folder)}
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


@pytest.mark.timeout(600)
def test_faults_change_no_verdict(tmp_path: Path) -> None:
    print(f"MEMTYPE_CHAOS_SEED={SEED}")
    chance = random.Random(SEED)
    folder = tmp_path / "tests"
    folder.mkdir()
    (folder / "pytest.ini").write_text("[pytest]\n")
    gate = tmp_path / "gate"
    (folder / "test_chaos.py").write_text(SUITE.replace("GATE", str(gate)))
    gate.touch()
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    mark = f"MEMTYPE_CHAOS_MARK={tmp_path.name}-{os.getpid()}"
    name, _, value = mark.partition("=")
    environment = {"TMPDIR": str(temporary), "MEMTYPE_CACHE": str(cache_directory()), name: value}
    undisturbed = run_tests(folder, "-n", "0", environment=environment)
    counts = re.search(r"(\d+) failed, (\d+) passed", undisturbed.stdout)
    assert counts is not None, undisturbed.stdout
    assert counts.groups() == ("2", str(TESTS - 2))
    records = _records(folder)
    gate.unlink()

    with _full_disk(tmp_path) as full:
        cluster = DaskCluster(tmp_path)
        goes_on = threading.Timer(0, lambda: None)
        try:
            cluster.scheduler()
            cluster.port = int(json.loads(cluster.file.read_text())["address"].rpartition(":")[2])
            for worker in ("one", "two", "three", "four"):
                own = full if worker == "four" else {}
                cluster.worker(worker, environment={**environment, **own})
            output = (tmp_path / "first.log").open("w+")
            command = [sys.executable, "-m", "pytest", "-p", "no:random_order", f"--scheduler={cluster.file}"]
            run = subprocess.Popen(
                command, cwd=folder, env={**os.environ, **environment}, stdout=output, stderr=output
            )
            order = ["one", "two", "three"]
            chance.shuffle(order)
            moments = sorted(chance.sample(range(1, 12), 3))
            # One worker is stopped, and goes on later; two are killed in turn, and come back.
            _wait_until_told(folder, moments[0], run)
            stopped = cluster.processes[order[0]].pid
            os.killpg(stopped, signal.SIGSTOP)
            goes_on = threading.Timer(STOPPED_SECONDS, lambda: _signal_group(stopped, signal.SIGCONT))
            goes_on.start()
            for moment, worker in zip(moments[1:], order[1:], strict=True):
                _wait_until_told(folder, moment, run)
                cluster.stop(worker)
                cluster.worker(worker, environment=environment)
            # The scheduler is killed, too: the run ends, and says how it goes on.
            _wait_until_told(folder, _told(folder) + 1, run)
            cluster.stop("scheduler")
            gate.touch()
            assert run.wait(120) == 3
            output.seek(0)
            said = output.read()
            assert re.search(r"the connection to the scheduler is lost; .* --resume \S+", said), said
            if full:
                assert "has room for" in said
            # Dask's workers end when they have lost their scheduler.
            for worker in order:
                cluster.stop(worker)
            cluster.scheduler()
            for worker in order:
                cluster.worker(worker, environment=environment)
            earlier = (folder / ".memtype/latest").resolve()
            done_before = _told(folder)
            assert 0 < done_before < TESTS
            resumed = run_tests(
                folder, f"--scheduler={cluster.file}", "--resume", earlier.name, environment=environment
            )
            assert resumed.returncode == 1, resumed.stdout + resumed.stderr
            assert counts[0] in resumed.stdout
            # What is left would be found.
            assert _left_over(mark, 0)
        finally:
            goes_on.cancel()
            cluster.close()
    verdicts = _verdicts(folder)
    failed = sorted(test for test, verdict in verdicts.items() if verdict == "failed")
    assert [re.sub(r".*::|\[.*?(\d+)\]", r"\1", test) for test in failed] == ["test_maps3", "test_waits7"]
    assert len(verdicts) == TESTS
    assert _records(folder) == records
    assert _left_over(mark, 60) == []
    # Those that remove folders when others have ended were among them.
    assert [path for path in temporary.iterdir() if "memtype" in path.name] == []
    assert not list((cache_directory() / "cluster").glob("*.partial"))
