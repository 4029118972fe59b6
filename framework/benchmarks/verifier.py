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
from collections.abc import Sequence
from dataclasses import dataclass

from common import bench, finish, show
from verifier_host import HostCost, measure

from pytest_memtype.guest.agent import Agent
from pytest_memtype.guest.guest import Guest

SIZES = (10, 100, 1000, 10_000, 100_000)
ROUNDS = 160
# A round shall be over before the host's scheduler takes its CPU away, so that most rounds tell the truth.
OPERATIONS = {False: 50, True: 10}
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
    bytes_per_record: int

    @property
    def ratio(self) -> float | None:
        return None if self.kernel is None else self.track / self.kernel


def median(rounds: Sequence[int], operations: int) -> float:
    return statistics.median(rounds) / operations


def measure_guest(guest: Guest, *, overlapping: bool, patient: bool) -> dict[int, Cost]:
    """In nanoseconds, by the number of mappings."""
    operations = OPERATIONS[overlapping]
    agent = Agent(guest.machine, timeout=PATIENCE, sequence=guest._agent.sequence)
    counts, moments = {}, []
    for size in SIZES:
        kernel = patient or not overlapping or size <= MOST_OVERLAPPING
        counts[size] = agent.call(
            "benchmark",
            records=size,
            operations=operations,
            rounds=ROUNDS,
            overlapping=int(overlapping),
            kernel=int(kernel),
        ).content
        moments.append((time.monotonic_ns(), counts[size]["tsc"]))
    (start, tsc), (end, last_tsc) = moments[0], moments[-1]
    nanosecond = (last_tsc - tsc) / (end - start)
    return {
        size: Cost(
            check=median(content["check_cycles"], operations) / nanosecond,
            track=median(content["track_cycles"], operations) / nanosecond,
            kernel=median(content["kernel_cycles"], operations) / nanosecond
            if content["kernel_cycles"]
            else None,
            bytes_per_record=content["bytes_per_record"],
        )
        for size, content in counts.items()
    }


def ratios(costs: dict[int, Cost]) -> dict[str, float | None]:
    return {str(size): each.ratio for size, each in costs.items()}


def growth(costs: dict[int, Cost]) -> float:
    return costs[100_000].track / costs[100].track


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
            disjoint = measure_guest(guests[0], overlapping=False, patient=patient)
            overlapping = measure_guest(guests[1], overlapping=True, patient=patient)
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
            "growth_100_to_100000": growth(disjoint),
            "growth_100_to_100000_overlapping": growth(overlapping),
            "bytes_per_record": disjoint[1000].bytes_per_record,
            "track_release_ns": {str(size): each.track for size, each in disjoint.items()},
            "check_ns": {str(size): each.check for size, each in disjoint.items()},
            "host_track_release_ns": {str(size): host[False][size].track_release_ns for size in SIZES},
            "host_check_ns": {str(size): host[False][size].check_ns for size in SIZES},
        }
    )


if __name__ == "__main__":
    main()
