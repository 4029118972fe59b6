"""Tests per second of the same 20 tests, with a guest booted or cloned for each, on one and two workers.

pytest's own start and that of its workers are not counted: :mod:`memtype_support.stopwatch`.

python framework/benchmarks/suite.py
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from memtype_support.benchmark import KERNEL, finish, show

from pytest_memtype.host.progress import silent
from pytest_memtype.host.resources import testcases
from pytest_memtype.kernels.bundle import bundle

TESTS = 20
ROUNDS = 3
FRESH = ("boot", "clone")
WORKERS = (1, 2)


def pytest(folder: Path, *arguments: str) -> str:
    """pytest's output.

    :raises SystemExit: it failed.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]
    command += ["--rootdir", str(folder), "--memtype-dir", str(folder / "memtype"), *arguments]
    command += ["-p", "memtype_support.stopwatch", "--accel", "tcg"]
    environment = {**os.environ, "STOPWATCH": str(folder / "seconds")}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"pytest failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def some_tests(folder: Path) -> list[str]:
    """Node ids of tests spread over the whole suite: its layouts, its drivers, its processes."""
    suite = testcases()
    listed = pytest(folder, "--collect-only", "--kernel", KERNEL, str(suite))
    # Tests outside pytest's root folder are named as seen from the folder that was asked for.
    found = [line for line in listed.splitlines() if "::" in line]
    if len(found) < TESTS:
        raise SystemExit(f"only {len(found)} tests in {suite}")
    # Evenly, and the same ones each time.
    return [str(suite / found[number * len(found) // TESTS]) for number in range(TESTS)]


def tests_per_second(folder: Path, tests: list[str], fresh: str, workers: int) -> float:
    pytest(folder, "-n", str(workers), "--kernel", KERNEL, f"--fresh={fresh}", *tests)
    return len(tests) / float((folder / "seconds").read_text())


def main() -> None:
    bundle(KERNEL, progress=silent)
    speeds: dict[tuple[str, int], list[float]] = {(fresh, n): [] for fresh in FRESH for n in WORKERS}
    with tempfile.TemporaryDirectory(prefix="memtype-benchmark-") as name:
        folder = Path(name)
        tests = some_tests(folder)
        # Templates are made once and kept; that is not what is measured.
        tests_per_second(folder, tests, "clone", 1)
        for _ in range(ROUNDS):
            for fresh, workers in speeds:
                speeds[fresh, workers].append(tests_per_second(folder, tests, fresh, workers))
    medians = {key: statistics.median(each) for key, each in speeds.items()}
    show(
        f"The same {TESTS} tests, tests per second",
        ("guests", "1 worker", "2 workers", "gain"),
        [
            (fresh, medians[fresh, 1], medians[fresh, 2], medians[fresh, 2] / medians[fresh, 1])
            for fresh in FRESH
        ],
    )
    figures = {f"{fresh}_tests_per_second_{n}": medians[fresh, n] for fresh, n in speeds}
    finish(
        {
            **figures,
            "clone_over_boot_1": medians["clone", 1] / medians["boot", 1],
            "clone_over_boot_2": medians["clone", 2] / medians["boot", 2],
            "two_workers_over_one": medians["clone", 2] / medians["clone", 1],
        }
    )


if __name__ == "__main__":
    main()
