"""What the verifier costs in user space on this host: the half of ``verifier.py`` that needs no guest."""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from memtype_support.benchmark import show
from pytest_memtype.host.resources import guest_sources

_LIMIT_SECONDS = 600


@dataclass(frozen=True)
class HostCost:
    """Medians of five rounds of 100,000 operations in one C loop, in nanoseconds of processor time.

    :param mappings: How many are tracked meanwhile, of 4 pages each, all of one type.
    :param overlapping: All of them on the same 4 pages, and the operation too; else with gaps, and the
        operation in one of the gaps, chosen at random.
    :param check_ns: One ``verifier_check()`` that accepts.
    :param track_release_ns: One ``verifier_track()`` and the ``verifier_release()`` of what it tracked.
    """

    mappings: int
    overlapping: bool
    check_ns: float
    track_release_ns: float


def measure() -> list[HostCost]:
    """At 10, 100, 1,000, 10,000 and 100,000 tracked mappings, disjoint and fully overlapping.

    The interval tree of user space is a treap, not the kernel's tree.
    """
    makefile = guest_sources() / "verifier_host" / "Makefile"
    with tempfile.TemporaryDirectory(prefix="memtype-benchmark-") as folder:
        subprocess.run(
            ["make", "-s", "-C", folder, "-f", str(makefile), "--no-print-directory", "benchmark"],
            timeout=_LIMIT_SECONDS,
            check=True,
        )
        done = subprocess.run(
            [Path(folder) / "benchmark"], stdout=subprocess.PIPE, timeout=_LIMIT_SECONDS, check=True
        )
    return [HostCost(**figures) for figures in json.loads(done.stdout)]


if __name__ == "__main__":
    show(
        "The verifier in user space, ns",
        ("mappings", "overlapping", "check", "track and release"),
        [(cost.mappings, cost.overlapping, cost.check_ns, cost.track_release_ns) for cost in measure()],
    )
