"""Faults planted in a copy of a real guest's memory are found, those and no others; nonsense is survived."""

from __future__ import annotations

import random

import numpy as np
import pytest
from memtype_support.corruption import corrupted, tables_of
from memtype_support.effort import effort
from memtype_support.naive_tables import SIZES, ArrayRam, Leaf, effective_of, leaves

from pytest_memtype import Guest, MemType
from pytest_memtype.audit.audit import Audit, audit
from pytest_memtype.audit.features import features
from pytest_memtype.audit.processors import Processors
from pytest_memtype.audit.regions import DIRECT_MAP, KERNEL_IMAGE, USER
from pytest_memtype.audit.roots import Root, find_roots
from pytest_memtype.machine.vcpu_registers import outside_registers, stopped
from pytest_memtype.x86.effective import Effective, Severity, danger
from pytest_memtype.x86.pte import PAT_4K, PAT_LARGE, PCD, PWT, memtype_of_entry

PLACES = 200


class Copy:
    """The memory of a guest that stood still, its CPUs, and its address spaces."""

    def __init__(self, guest: Guest) -> None:
        known = features(guest.qmp)
        with stopped(guest.machine):
            cpus = outside_registers(guest.machine)
            memory = guest.machine.memory.read(0, guest.hardware.memory_bytes)
        self.ram = ArrayRam(np.frombuffer(bytearray(memory), "<u8").reshape(-1, 512))
        self.processors = Processors(cpus, known.vendor, known.physical_bits, known.has_mtrr)
        self.roots: tuple[Root, ...] = find_roots(self.ram, self.processors.roots)

    def audit(self) -> Audit:
        return audit(self.ram, self.processors, self.roots)

    def audit_saved(self) -> Audit:
        """As ``memtype audit --ram`` does it, which has to find the roots in the same memory."""
        return audit(self.ram, self.processors, find_roots(self.ram, self.processors.roots))


@pytest.fixture
def copy(guest: Guest) -> Copy:
    for name in ("X", "Y"):
        process = guest.process(name)
        mapping = process.mmap(guest.ram(pages=4), MemType.WB).mapping
        assert mapping is not None
    return Copy(guest)


def graded(types: set[Effective]) -> Severity:
    return max(danger(a, b) for a in types for b in types)


def conflicts(found: Audit) -> dict[int, Severity]:
    """By frame."""
    return {
        frame: each.danger
        for each in found.findings
        if each.kind.name == "CONFLICT"
        for frame in range(each.start >> 12, each.end >> 12)
    }


def test_planted_conflicts_are_found(copy: Copy) -> None:
    typing = copy.processors.typing
    reached: dict[Leaf, tuple[int, int]] = {}
    for root in copy.roots:
        for virtual, leaf in leaves(copy.ram, root.frame, 4):
            reached.setdefault(leaf, (root.frame, virtual))
    mapped: dict[int, list[Leaf]] = {}
    for leaf in reached:
        for frame in leaf.frames:
            mapped.setdefault(frame, []).append(leaf)
    shared = [leaf for leaf in reached if any(len(mapped[frame]) > 1 for frame in leaf.frames)]

    assert copy.audit().conflicts == ()
    loaded = {root.frame for root in copy.processors.roots}
    chance = random.Random(8)
    kinds = {(leaf.level, reached[leaf][1] < 1 << 47, reached[leaf][0] in loaded): leaf for leaf in shared}
    assert len(kinds) >= 4  # of 4 KiB and 2 MiB, user and kernel, in CR3 and not
    assert {SIZES[level] for level, _, _ in kinds} == {SIZES[1], SIZES[2]}
    chosen = [*kinds.values(), *chance.choices(shared, k=PLACES - len(kinds))]
    for leaf in chosen:
        bit = chance.choice([PCD, PWT, PAT_4K if leaf.level == 1 else PAT_LARGE])
        changed = leaf.entry ^ bit
        expected = {}
        for frame in leaf.frames:
            types = {effective_of(other, frame, typing) for other in mapped[frame] if other != leaf}
            grade = graded(types | {effective_of(leaf, frame, typing, entry=changed)})
            if grade is not Severity.OK:
                expected[frame] = grade
        copy.ram.words[leaf.table, leaf.slot] = changed
        try:
            assert conflicts(copy.audit()) == expected, f"{leaf} ^ {bit:#x}"
        finally:
            copy.ram.words[leaf.table, leaf.slot] = leaf.entry
    assert copy.audit().conflicts == ()


def test_every_mapping_of_a_page_is_told(copy: Copy) -> None:
    """Against the naive walk: all addresses at which the pages of the kernel's image and of a process are."""
    found = copy.audit()
    # (root, virtual address, page attribute). What is in the kernel's half has no root: all have it, unless
    # they say something else there.
    expected: dict[int, set[tuple[int | None, int, MemType]]] = {}
    pat = copy.processors.typing.pat
    for root in copy.roots:
        for virtual, leaf in leaves(copy.ram, root.frame, 4):
            where = virtual | 0xFFFF << 48 if virtual >> 47 else virtual
            memtype = memtype_of_entry(leaf.entry, page_size=SIZES[leaf.level], pat=pat)
            for offset, frame in enumerate(leaf.frames):
                whose = None if virtual >> 47 else root.frame
                expected.setdefault(frame, set()).add((whose, where + (offset << 12), memtype))
    regions = set()
    for frame in random.Random(1).sample(sorted(expected), 300):
        seen = found.seen.of(frame, 1)
        told = [
            (
                None if each.virtual >> 63 else each.root,
                each.virtual + (frame << 12) - each.start,
                each.memtype,
            )
            for each in seen
        ]
        assert sorted(map(str, told)) == sorted(map(str, expected[frame]))
        regions |= {each.region for each in seen}
    assert DIRECT_MAP in regions
    assert USER in regions or KERNEL_IMAGE in regions


def test_corrupted_memories_are_survived(copy: Copy) -> None:
    """Random words, and random copies of entries, all over the page tables of a real guest."""
    tables = tables_of(copy.audit().seen.walk.walk)
    # The walk has seen all that the naive one has.
    assert {leaf.table for root in copy.roots for _, leaf in leaves(copy.ram, root.frame, 4)} <= set(tables)
    told = 0
    for _ in corrupted(copy.ram.words, tables, effort(quick=60, long=1000), seed=5):
        told += bool(copy.audit_saved().dangling_entries)
    assert told, "not one of them had an entry that leads nowhere"
