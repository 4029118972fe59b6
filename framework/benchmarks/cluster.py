"""A Dask cluster at scale, without guests: are its workers kept busy, and what do scheduler and client take?

The client is that of a run with --scheduler. A task takes 5 to 60 s, median 20: log-normal, cut at both ends.
The longest are submitted first, as of tests whose times are known. The largest cluster does all tasks,
smaller ones as many for each worker.

python framework/benchmarks/cluster.py [--workers 10,100,1000] [--tasks 50000] [--scale 1.0] [--into FILE]

In small: --workers 5,50 --tasks 500 --scale 0.1
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from memtype_support.benchmark import came, finish, show
from memtype_support.simulated_cluster import Load, measure


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", default="10,100,1000", help="sizes of clusters, the largest last")
    parser.add_argument("--tasks", type=int, default=50_000, help="of the largest cluster")
    parser.add_argument("--scale", type=float, default=1.0, help="what times are multiplied by")
    parser.add_argument("--processes", type=int, default=Load.processes, help="that the workers share")
    parser.add_argument(
        "--into", type=Path, metavar="FILE", help="that gets each size's figures as they come"
    )
    given = parser.parse_args()
    sizes = [int(each) for each in given.workers.split(",")]
    figures, rows = {}, []
    for workers in sizes:
        load = Load(
            workers,
            tasks=max(1, given.tasks * workers // sizes[-1]),
            scale=given.scale,
            processes=given.processes,
        )
        made = measure(load)
        figures[str(workers)] = {
            "tasks": float(load.tasks),
            "tasks_per_second": load.tasks / made.seconds,
            **asdict(made),
        }
        came({str(workers): figures[str(workers)]}, given.into)
        rows.append(
            (
                workers,
                load.tasks,
                load.tasks / made.seconds,
                made.busy * 100,
                made.scheduler_mib,
                made.client_mib,
                made.scheduler_cpu / load.tasks * 1000,
                made.client_cpu / load.tasks * 1000,
            )
        )
    show(
        f"Simulated clusters, times of tasks times {given.scale}",
        (
            "workers",
            "tasks",
            "tasks/s",
            "busy %",
            "scheduler MiB",
            "client MiB",
            "scheduler ms/task",
            "client ms/task",
        ),
        rows,
    )
    finish(figures)


if __name__ == "__main__":
    main()
