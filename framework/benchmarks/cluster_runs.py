"""The suite by workers of a Dask cluster: beside pytest-xdist's, and by two workers beside one.

``local`` is --scheduler local, with as many workers as xdist has. ``one`` and ``two`` are workers on a core
of their own each. Times are those of the whole command, with templates and durations of a run before. Records
of xdist and local are compared.

python framework/benchmarks/cluster_runs.py [--kernel SPEC]... [--into FILE] [-- ARGUMENTS OF PYTEST]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from memtype_support.benchmark import came, finish, show
from memtype_support.dask_cluster import DaskCluster, dask_cluster

KERNELS = ("debian:bullseye", "debian:bookworm", "debian:trixie-backports")


def memtype(folder: Path, *arguments: str, allowed: Sequence[int] = (0,)) -> str:
    """The command's output.

    :raises SystemExit: it failed.
    """
    command = [str(Path(sys.executable).with_name("memtype")), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode not in allowed:
        raise SystemExit(f"{' '.join(command)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


@contextlib.contextmanager
def pinned(place: Path, cores: Sequence[int]) -> Iterator[DaskCluster]:
    """A cluster of a worker on each of these cores; its scheduler may use all."""
    place.mkdir()
    everywhere = os.sched_getaffinity(0)
    with dask_cluster(place, []) as cluster:
        for core in cores:
            # Inherited by the worker and all that it starts.
            os.sched_setaffinity(0, {core})
            try:
                cluster.worker(f"core-{core}")
            finally:
                os.sched_setaffinity(0, everywhere)
        cluster.joined()
        yield cluster


def seconds_and_run(folder: Path, *arguments: str) -> tuple[float, Path]:
    """How long a run takes, and its folder."""
    start = time.perf_counter()
    memtype(folder, "run", "--suite", "-q", *arguments)
    return time.perf_counter() - start, (folder / ".memtype" / "latest").resolve()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--kernel", action="append", help="kernels for xdist and local; the first is for one and two"
    )
    parser.add_argument("--into", type=Path, metavar="FILE", help="that gets each figure as it comes")
    parser.add_argument("arguments", nargs="*", help="of pytest")
    given = parser.parse_args()
    kernels = given.kernel or KERNELS
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        raise SystemExit("two workers need two cores; this host gives one")
    of_all = [word for kernel in kernels for word in ("--kernel", kernel)] + given.arguments
    of_one = ["--kernel", kernels[0], *given.arguments]
    with tempfile.TemporaryDirectory(prefix="memtype-benchmark-") as name:
        folder = Path(name)
        # Templates and durations are kept from it.
        seconds_and_run(folder, "--scheduler", "local", *of_all)
        xdist, run = seconds_and_run(folder, *of_all)
        came({"xdist_s": xdist}, given.into)
        local, by_cluster = seconds_and_run(folder, "--scheduler", "local", *of_all)
        came({"local_s": local}, given.into)
        compared = json.loads(memtype(folder, "compare", "--json", str(run), str(by_cluster), allowed=(0, 1)))
        differing = {
            "changes": float(len(compared["changes"])),
            "not_under_all": float(compared["not_under_all"]),
        }
        came(differing, given.into)
        times = {}
        for count, word in ((1, "one"), (2, "two")):
            with pinned(folder / f"cluster-{count}", cores[:count]) as cluster:
                times[count], _ = seconds_and_run(folder, "--scheduler", str(cluster.file), *of_one)
            came({f"{word}_s": times[count]}, given.into)
    show(
        "The suite, seconds",
        ("workers", "kernels", "seconds"),
        [
            ("xdist", len(kernels), xdist),
            ("local", len(kernels), local),
            ("one", 1, times[1]),
            ("two", 1, times[2]),
        ],
    )
    finish(
        {
            "local_over_xdist": local / xdist,
            "two_over_one": times[1] / times[2],
            **differing,
        }
    )


if __name__ == "__main__":
    main()
