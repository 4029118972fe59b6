"""How long kernels take to be made ready from an empty cache, and a warm run to its first test.

"Cold" fetches and builds six kernels, two in each stage, in a cache of its own that is gone afterwards. The
bound is 1.3 times what the slowest stage takes (downloading or building, summed over the kernels), shared by
two workers. "Warm" is from the start of ``memtype run`` to the start of its first test, with everything in
the user's cache.

    python framework/benchmarks/kernels.py
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from memtype_support.benchmark import finish, show
from rich.console import Console

from pytest_memtype.kernels.prepare import WORKERS, Status, prepare
from pytest_memtype.kernels.table import live_table

KERNELS = (
    "debian:bullseye",
    "debian:bookworm",
    "debian:trixie",
    "debian:trixie-backports",
    "debian:sid",
    "debian:6.16",
)
STAGES = ("downloading", "building")
BOUND = 1.3
WARM_ROUNDS = 5
MEMTYPE = "from pytest_memtype.cli import main; main()"

FIRST_TEST = """
import os, time
from pathlib import Path

def pytest_runtest_logstart():
    stamp = Path(os.environ["FIRST_TEST"])
    if not stamp.exists():
        stamp.write_text(str(time.time()))
"""


def cold() -> tuple[float, list[Status]]:
    """Seconds that all kernels took together, and how each ended."""
    with tempfile.TemporaryDirectory(prefix="memtype-benchmark-") as folder:
        os.environ["MEMTYPE_CACHE"] = folder
        try:
            with live_table(Console(stderr=True), KERNELS) as changed:
                start = time.perf_counter()
                done = prepare(KERNELS, on_change=changed)
                return time.perf_counter() - start, done
        finally:
            del os.environ["MEMTYPE_CACHE"]


def warm(folder: Path, number: int) -> float:
    """Seconds from the start of ``memtype run`` to the start of its first test."""
    stamp = folder / f"first-{number}"
    (folder / "first_test.py").write_text(FIRST_TEST)
    command = [
        sys.executable,
        "-c",
        MEMTYPE,
        "run",
        "-p",
        "first_test",
        "-q",
        "-k",
        "malformed",
        "-x",
    ]
    start = time.time()
    subprocess.run(
        [*command, "--memtype-dir", str(folder / "records")],
        env={**os.environ, "FIRST_TEST": str(stamp), "PYTHONPATH": os.pathsep.join((str(folder), *sys.path))},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return float(stamp.read_text()) - start


def main() -> None:
    took, done = cold()
    show(
        f"Six kernels from an empty cache, {WORKERS} in each stage, seconds",
        ("kernel", "stage", *STAGES),
        [
            (status.spec, status.stage, *(status.seconds.get(stage, 0.0) for stage in STAGES))
            for status in done
        ],
    )
    sums = {stage: sum(status.seconds.get(stage, 0.0) for status in done) for stage in STAGES}
    slowest = max(sums.values())
    bound = BOUND * slowest / WORKERS
    with tempfile.TemporaryDirectory(prefix="memtype-benchmark-") as folder:
        starts = [warm(Path(folder), number) for number in range(WARM_ROUNDS)]
    show(
        "Together, seconds",
        ("", "seconds"),
        [
            *((f"all {stage}", total) for stage, total in sums.items()),
            ("cold, wall clock", took),
            (f"bound: {BOUND} x {slowest:.1f} / {WORKERS}", bound),
            ("cold over its bound, a ratio", f"{took / bound:.2f}"),
            (f"warm run to its first test, median of {WARM_ROUNDS}", statistics.median(starts)),
            ("most", max(starts)),
        ],
    )
    finish(
        {
            "cold_s": took,
            "bound_s": bound,
            "ratio_to_bound": took / bound,
            "downloading_s": sums["downloading"],
            "building_s": sums["building"],
            "failed": sum(status.error is not None for status in done),
            "warm_first_test_s": statistics.median(starts),
        }
    )


if __name__ == "__main__":
    main()
