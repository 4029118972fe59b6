"""How long the audit takes, beside QEMU's ``info tlb`` and beside numpy's bare touch of the same tables.

Measured warm, on guests that stand still: the default one, and up to 2 GiB mapped by 4 KiB pages alone
(``-cpu qemu64,-pse``). ``audit`` is walk, types and grouping of the loaded roots; the search of all RAM for
other roots is told apart.

Then 1,000 copies of the default guest's memory with page tables gone mad, each audited as ``memtype audit
--ram`` does it, roots and all, and once more with the roots known: against the sound copy, audited just
before; of each, the least of five rounds, and of a memory over twice the least of four such ratios. They are
others in each run; the seed that is printed has the same ones again. With several seeds that many thousand
copies are audited, and nothing else is measured.

    python framework/benchmarks/audit.py [SEED]...
"""

from __future__ import annotations

import contextlib
import secrets
import statistics
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from memtype_support.benchmark import Bench, bench, finish, milliseconds, show
from memtype_support.corruption import corrupted, tables_of

from pytest_memtype.audit.audit import audit
from pytest_memtype.audit.features import features
from pytest_memtype.audit.processors import Processors
from pytest_memtype.audit.ram import ProcessRam, Ram, RamFile
from pytest_memtype.audit.roots import find_roots
from pytest_memtype.audit.walk import Walk
from pytest_memtype.guest.guest import Guest
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.memory_map import owners
from pytest_memtype.machine.vcpu_registers import outside_registers, stopped
from pytest_memtype.run.boot import booted

ROUNDS = 15
PATIENCE = 300
GROWTH = ("256M", "512M", "1G", "2G")
ONLY_4K = "qemu64,-pse"
MEMORIES = 1000
TWICE = 2
AGAIN = 3


@dataclass(frozen=True)
class Cost:
    """Medians, in milliseconds.

    :param stop_ms: The whole of :meth:`Guest.audit` that the guest stands still for.
    :param bytes_per_leaf: The most memory in use during an audit.
    """

    leaves: int
    audit_ms: float
    walk_ms: float
    root_scan_ms: float
    stop_ms: float
    touch_ms: float
    info_tlb_ms: float
    bytes_per_leaf: float

    @property
    def figures(self) -> dict[str, float | None]:
        return {
            "leaves": self.leaves,
            "audit_ms": self.audit_ms,
            "walk_ms": self.walk_ms,
            "root_scan_ms": self.root_scan_ms,
            "stop_ms": self.stop_ms,
            "ratio_to_touch": self.walk_ms / self.touch_ms,
            "speedup_over_info_tlb": self.info_tlb_ms / self.audit_ms,
            "touch_ms": self.touch_ms,
            "info_tlb_ms": self.info_tlb_ms,
            "bytes_per_leaf": self.bytes_per_leaf,
        }


def processors_of(guest: Guest) -> Processors:
    """Of a guest that stands still."""
    known = features(guest.qmp)
    cpus = outside_registers(guest.machine)
    return Processors(cpus, known.vendor, known.physical_bits, known.has_mtrr)


def measure(guest: Guest) -> Cost:
    machine = guest.machine
    stops = [guest.audit(tracked=False).figures.stop_ms for _ in range(5)]
    with (
        stopped(machine),
        contextlib.closing(ProcessRam(machine.process.pid, machine.memory.ranges)) as ram,
    ):
        processors = processors_of(guest)
        whose = owners(guest.hardware)
        audits = [audit(ram, processors, processors.roots, owners=whose) for _ in range(ROUNDS)]
        tables = audits[-1].seen.walk.walk
        tracemalloc.start()
        audit(ram, processors, processors.roots, owners=whose)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return Cost(
            leaves=audits[-1].figures.leaves,
            audit_ms=statistics.median(each.figures.audit_ms for each in audits),
            walk_ms=statistics.median(each.figures.walk_ms for each in audits),
            root_scan_ms=median(lambda: find_roots(ram, processors.roots), 3),
            stop_ms=statistics.median(stops),
            touch_ms=median(lambda: touch(ram, tables), ROUNDS),
            info_tlb_ms=median(lambda: info_tlb(guest), 3),
            bytes_per_leaf=most / len(tables),
        )


@dataclass(frozen=True)
class Madness:
    """Times of audits of corrupted memories, as multiples of the sound memory's.

    :param whole: With the search for roots.
    :param known: With the roots given.
    """

    whole: list[float]
    known: list[float]

    @property
    def rows(self) -> list[tuple[str, float, float, float, int]]:
        return [
            (name, statistics.median(each), sorted(each)[len(each) * 99 // 100], max(each), over(each))
            for name, each in (("whole", self.whole), ("roots known", self.known))
        ]


def over(ratios: list[float]) -> int:
    return sum(ratio > TWICE for ratio in ratios)


def go_mad(guest: Guest, folder: Path, seed: int) -> Madness:
    machine = guest.machine
    folder.mkdir()
    files = folder / "sound", folder / "mad"
    with stopped(machine):
        processors = processors_of(guest)
        memory = machine.memory.read(0, guest.hardware.memory_bytes)
        for file in files:
            file.write_bytes(memory)
    whose = owners(guest.hardware)
    sound, mad = map(RamFile, files)
    roots = find_roots(sound, processors.roots)

    def times(ram: Ram) -> tuple[float, float]:
        return (
            least(lambda: audit(ram, processors, find_roots(ram, processors.roots), owners=whose)),
            least(lambda: audit(ram, processors, roots, owners=whose)),
        )

    def ratios() -> tuple[float, float]:
        before, after = times(sound), times(mad)
        return after[0] / before[0], after[1] / before[1]

    def calm() -> tuple[float, float]:
        whole, known = ratios()
        for _ in range(AGAIN):
            # A busy host is over twice now and then, a memory always.
            if max(whole, known) <= TWICE:
                break
            whole, known = map(min, (whole, known), ratios())
        return whole, known

    words = np.memmap(files[1], "<u8", "r+").reshape(-1, 512)
    tables = tables_of(audit(sound, processors, roots).seen.walk.walk)
    taken = [calm() for _ in corrupted(words, tables, MEMORIES, seed=seed)]
    return Madness([whole for whole, _ in taken], [known for _, known in taken])


def least(action: Callable[[], object]) -> float:
    """Of a few rounds: what a busy host adds is no memory's doing."""
    return min(milliseconds(action) for _ in range(5))


def median(action: Callable[[], object], rounds: int) -> float:
    return statistics.median(milliseconds(action) for _ in range(rounds))


def touch(ram: Ram, tables: Walk) -> int:
    """Read every table once, and look at every entry once."""
    return sum(int(np.count_nonzero(ram.read(level.tables))) for level in tables.levels.values())


def info_tlb(guest: Guest) -> None:
    guest.qmp.execute("human-monitor-command", {"command-line": "info tlb"}, timeout=120)


def of(on: Bench, hardware: Hardware) -> Cost:
    guest = booted(replace(on.plan, hardware=hardware), logs=on.logs(), timeout=PATIENCE)
    with guest.machine:
        return measure(guest)


def only_mad(seeds: list[int]) -> None:
    rows = []
    with bench() as on:
        guest = on.clone()
        with guest.machine:
            for seed in seeds:
                rows += [(seed, *row) for row in go_mad(guest, on.logs(), seed).rows]
                print(*rows[-2:], sep="\n", flush=True)
    columns = ("seed", "audit", "median", "99 %", "most", "over twice")
    show(f"{MEMORIES} corrupted memories of each seed, as multiples of the sound one's time", columns, rows)
    finish({"over_twice": sum(int(row[-1]) for row in rows)})


def main() -> None:
    seeds = [int(each) for each in sys.argv[1:]] or [secrets.randbelow(1_000_000)]
    if len(seeds) > 1:
        only_mad(seeds)
        return
    (seed,) = seeds
    with bench() as on:
        guest = on.clone()
        with guest.machine:
            default = measure(guest)
            madness = go_mad(guest, on.logs(), seed)
        grown = {memory: of(on, Hardware(cpu=ONLY_4K, memory=memory)) for memory in GROWTH}
    rows = [
        (
            name,
            each.leaves,
            each.audit_ms,
            each.walk_ms,
            each.touch_ms,
            each.root_scan_ms,
            each.stop_ms,
            each.info_tlb_ms,
            each.bytes_per_leaf,
            f"{each.audit_ms * 1e6 / each.leaves:.0f}",
        )
        for name, each in [("default", default), *((f"{size}, 4K", cost) for size, cost in grown.items())]
    ]
    columns = ("guest", "leaves", "audit", "walk", "touch", "roots", "stop", "info tlb", "B/leaf", "ns/leaf")
    show("The audit, milliseconds", columns, rows)
    show(
        f"{MEMORIES} corrupted memories (seed {seed}), as multiples of the sound one's time",
        ("audit", "median", "99 %", "most", "over twice"),
        madness.rows,
    )
    finish({"default": default.figures, "2G": grown["2G"].figures})


if __name__ == "__main__":
    main()
