"""The verifier beside the kernel's own list: what counting a mapping costs, and how that grows.

In a guest, the module counts and releases mappings with the verifier and with the kernel's memtype_reserve()
and memtype_free(), in turn, while 10 to 100,000 others are in both: each of another page, or all of one. On
the host, the same C code in user space.

``--patient`` also fills the kernel's list with 100,000 mappings of one page. For each that comes it walks all
that are there: ten minutes.
"""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import dataclass

from memtype_support.benchmark import bench, finish, show
from memtype_support.verifier_host import HostCost, measure

from pytest_memtype.guest.agent import Agent
from pytest_memtype.guest.guest import Guest

SIZES = (10, 100, 1000, 10_000, 100_000)
ROUNDS = 160
# A round shall be over before the host's scheduler takes its CPU away, so that most rounds tell the truth.
OPERATIONS = {False: 50, True: 10}
# Filling the kernel's list with mappings of one page takes long.
PASSES = {False: 7, True: 1}
MOST_OVERLAPPING = 10_000
PATIENCE = 3600


@dataclass(frozen=True)
class Cost:
    """Medians.

    :param check: One ``verifier_check()`` that accepts.
    :param track: One ``verifier_track()`` and the ``verifier_release()`` of what it tracked.
    :param kernel: ``memtype_reserve()`` and ``memtype_free()``; None where the list wasn't filled.
    """

    check: float
    track: float
    kernel: float | None

    @property
    def ratio(self) -> float | None:
        return None if self.kernel is None else self.track / self.kernel


def measure_guest(guest: Guest, *, overlapping: bool, patient: bool) -> list[dict[int, Cost]]:
    """In nanoseconds, by the number of mappings, of each pass."""
    agent = Agent(guest.machine, timeout=PATIENCE, sequence=guest._agent.sequence)
    start, first = 0, 0
    passes = []
    for _ in range(PASSES[overlapping]):
        contents = {}
        for size in SIZES:
            contents[size] = agent.call(
                "benchmark",
                records=size,
                operations=OPERATIONS[overlapping],
                rounds=ROUNDS,
                overlapping=int(overlapping),
                kernel=int(patient or not overlapping or size <= MOST_OVERLAPPING),
            ).content
            end, last = time.monotonic_ns(), contents[size]["tsc"]
            if not start:
                start, first = end, last
        passes.append(contents)
    operation = OPERATIONS[overlapping] * (last - first) / (end - start)
    return [{size: cost(content, operation) for size, content in each.items()} for each in passes]


def cost(content: dict[str, list[int]], operation: float) -> Cost:
    """:param operation: Cycles of a round that make a nanosecond of an operation."""
    check, track = (statistics.median(content[f"{name}_cycles"]) / operation for name in ("check", "track"))
    kernel = content["kernel_cycles"]
    return Cost(check, track, statistics.median(kernel) / operation if kernel else None)


def typical(passes: list[dict[int, Cost]]) -> dict[int, Cost]:
    """Of all passes the one in the middle, for each size."""
    middle = len(passes) // 2
    return {
        size: sorted((each[size] for each in passes), key=lambda one: one.track)[middle] for size in SIZES
    }


def growth(passes: list[dict[int, Cost]]) -> float:
    """Median of what each pass says: from one to the next the host may have slowed down."""
    return statistics.median(each[100_000].track / each[100].track for each in passes)


def bytes_per_record(guest: Guest) -> int:
    content = guest._agent.call("benchmark", records=1, operations=1, rounds=1, kernel=0).content
    return int(content["bytes_per_record"])


def ratios(costs: dict[int, Cost]) -> dict[str, float | None]:
    return {str(size): each.ratio for size, each in costs.items()}


def shown(title: str, costs: dict[int, Cost], host: dict[int, HostCost]) -> None:
    rows = [
        (
            f"{size:,}",
            each.check,
            each.track,
            "-" if each.kernel is None else each.kernel,
            "-" if each.ratio is None else f"{each.ratio:.2f}",
            host[size].check_ns,
            host[size].track_release_ns,
        )
        for size, each in costs.items()
    ]
    show(title, ("mappings", "check", "count", "kernel", "ratio", "host check", "host count"), rows)


def main() -> None:
    patient = "--patient" in sys.argv[1:]
    with bench() as on:
        guests = on.clone(), on.clone()
        with guests[0].machine, guests[1].machine:
            record = bytes_per_record(guests[0])
            passes = measure_guest(guests[0], overlapping=False, patient=patient)
            overlapping_passes = measure_guest(guests[1], overlapping=True, patient=patient)
    disjoint, overlapping = typical(passes), typical(overlapping_passes)
    measured = measure()
    host = {
        each: {one.mappings: one for one in measured if one.overlapping is each} for each in (False, True)
    }
    shown("Counting a mapping and releasing it beside others, ns", disjoint, host[False])
    shown("The same, all of one page, ns", overlapping, host[True])
    finish(
        {
            "ratio_to_kernel": ratios(disjoint),
            "ratio_to_kernel_overlapping": ratios(overlapping),
            "growth_100_to_100000": growth(passes),
            "growth_100_to_100000_overlapping": growth(overlapping_passes),
            "bytes_per_record": record,
            "track_release_ns": {str(size): each.track for size, each in disjoint.items()},
            "check_ns": {str(size): each.check for size, each in disjoint.items()},
            "host_track_release_ns": {str(size): host[False][size].track_release_ns for size in SIZES},
            "host_check_ns": {str(size): host[False][size].check_ns for size in SIZES},
        }
    )


if __name__ == "__main__":
    main()
