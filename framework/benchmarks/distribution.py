"""How long a fresh Debian guest takes beside a minimal one with the same kernel.

``clone`` runs from nothing to the agent's first answer. Both are measured in turns, so that a busy host
slows both alike. ``ssh`` is from there to a command's output over SSH.

    python framework/benchmarks/distribution.py
"""

from __future__ import annotations

import functools
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

from memtype_support.benchmark import finish, milliseconds, show
from rich.console import Console

from pytest_memtype.distribution.system import distribution, own_kernel
from pytest_memtype.guest.guest import Guest
from pytest_memtype.host.progress import shown
from pytest_memtype.host.resources import cache_directory
from pytest_memtype.kernels.bundle import bundle
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.layout_file import load_layout
from pytest_memtype.run.boot import GuestPlan, booted, cloned

GUEST = "debian:bookworm"
ROUNDS = 20


def main() -> None:
    figures: dict[str, list[float]] = {"minimal": [], "debian": [], "ssh": [], "boot of debian": []}
    guests: list[Guest] = []
    with shown(Console(stderr=True)) as progress, tempfile.TemporaryDirectory() as folder:
        made = bundle(own_kernel(GUEST, progress=progress), progress=progress)
        runs = distribution(GUEST, made, progress=progress)
        minimal = GuestPlan(made.image, made.initramfs, load_layout("firmware", []), Hardware())
        debian = replace(minimal, initramfs=runs.initramfs, distribution=runs)

        def clone(plan: GuestPlan) -> Guest:
            cache, logs = cache_directory() / "templates", Path(folder) / str(len(guests))
            guests.append(cloned(plan, logs=logs, cache=cache, progress=progress))
            return guests[-1]

        for plan in (minimal, debian):
            clone(plan).machine.close()
        for turn in range(ROUNDS):
            for name, plan in (("minimal", minimal), ("debian", debian)):
                figures[name].append(milliseconds(functools.partial(clone, plan)))
                if name == "debian" and turn % 4 == 0:
                    figures["ssh"].append(milliseconds(lambda: guests[-1].ssh().run("true")))
                guests[-1].machine.close()
        boot = milliseconds(lambda: guests.append(booted(debian, logs=Path(folder) / "boot")))
        guests[-1].machine.close()
        figures["boot of debian"].append(boot)
        size = sum(path.stat().st_size for path in runs.drives)
    medians = {name: statistics.median(values) for name, values in figures.items()}
    show(
        f"A fresh guest with {made.release}, milliseconds",
        ("", "median", "least", "most", "rounds"),
        [(name, medians[name], min(each), max(each), len(each)) for name, each in figures.items()],
    )
    finish(
        {
            "minimal_ms": medians["minimal"],
            "debian_ms": medians["debian"],
            "ratio": medians["debian"] / medians["minimal"],
            "ssh_ms": medians["ssh"],
            "boot_ms": medians["boot of debian"],
            "images_mib": size / (1 << 20),
        }
    )


if __name__ == "__main__":
    main()
