"""How long a fresh guest takes: cloned, booted, and what QEMU alone needs for its start.

``clone`` runs from nothing to the agent's first answer, ``boot`` likewise, ``bare QEMU`` until the same
QEMU command, started as any program is and paused, answers over QMP. They are measured in turns, so that a
busy host slows all alike.

    python framework/benchmarks/clone.py
"""

from __future__ import annotations

import statistics
from dataclasses import replace

from memtype_support.benchmark import Bench, bench, finish, milliseconds, show

from pytest_memtype.machine.machine import Machine
from pytest_memtype.run.boot import booted

ROUNDS = 20
BOOTS = 5


def bare(on: Bench) -> float:
    machines: list[Machine] = []
    command = replace(on.plan.command, launcher=None)
    took = milliseconds(lambda: machines.append(Machine.start(command, logs=on.logs())))
    machines.pop().close()
    return took


def clone(on: Bench) -> float:
    machines: list[Machine] = []
    took = milliseconds(lambda: machines.append(on.clone().machine))
    machines.pop().close()
    return took


def boot(on: Bench) -> float:
    machines: list[Machine] = []
    took = milliseconds(lambda: machines.append(booted(on.plan, logs=on.logs()).machine))
    machines.pop().close()
    return took


def main() -> None:
    figures: dict[str, list[float]] = {"bare QEMU": [], "clone": [], "boot": []}
    with bench() as on:
        for turn in range(ROUNDS):
            figures["bare QEMU"].append(bare(on))
            figures["clone"].append(clone(on))
            if turn % (ROUNDS // BOOTS) == 0:
                figures["boot"].append(boot(on))
    medians = {name: statistics.median(values) for name, values in figures.items()}
    show(
        "A fresh guest, milliseconds",
        ("", "median", "least", "most", "rounds"),
        [(name, medians[name], min(each), max(each), len(each)) for name, each in figures.items()],
    )
    finish(
        {
            "clone_ms": medians["clone"],
            "bare_qemu_ms": medians["bare QEMU"],
            "boot_ms": medians["boot"],
            "ratio_to_bare": medians["clone"] / medians["bare QEMU"],
            "speedup_over_boot": medians["boot"] / medians["clone"],
        }
    )


if __name__ == "__main__":
    main()
