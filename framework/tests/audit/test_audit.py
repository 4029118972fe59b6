"""The audit as a whole: what it counts, and what its result says."""

from __future__ import annotations

from memtype_support.hand_made import (
    KERNEL,
    LARGE,
    POINTER,
    UC,
    audited,
    chain,
    cpu,
    memory,
    pages,
    processors,
)

from pytest_memtype.audit.audit import analyse, audit, snapshot
from pytest_memtype.audit.findings import FindingKind
from pytest_memtype.audit.roots import Root
from pytest_memtype.x86.effective import Severity

TABLES = chain(1, 2, 3, 4)


def test_sound_tables_have_no_findings() -> None:
    found = audited({**TABLES, **pages(4, range(0x20, 0x30))})
    assert (found.findings, found.dangling_entries, found.cut) == ((), (), ())
    assert found.worst is Severity.OK
    figures = found.figures
    assert (figures.roots, figures.tables, figures.leaves, figures.pages) == (1, 4, 16, 16)


def test_pages_are_counted_once() -> None:
    """2 MiB from frame 512 on in one entry, and one of its pages once more."""
    entries = {**TABLES, (3, 1): 512 << 12 | LARGE, **pages(4, [600])}
    figures = audited(entries).figures
    assert (figures.leaves, figures.pages) == (2, 512)


def test_conflicts_are_those_that_nothing_excuses() -> None:
    """In the first MiB UC beside WC is as Linux means it; UC beside WB on RAM isn't."""
    # Slot 1 of the PAT is WC.
    linux = cpu(pat=0x0407050600070106)
    window = {**pages(4, [0xA0], UC), **pages(4, [0xA0], 1 << 3, first_slot=1)}
    found = audited({**TABLES, **window}, linux)
    assert found.conflicts == ()
    assert [each.kind for each in found.findings if each.benign is None] == [FindingKind.SMRAM]
    ram = {**pages(4, [0x20], first_slot=8), **pages(4, [0x20], UC, first_slot=9)}
    found = audited({**TABLES, **window, **ram}, linux)
    assert [(each.start, each.danger) for each in found.conflicts] == [(0x20000, Severity.ERROR)]
    assert found.worst is Severity.ERROR


def test_what_was_read_can_be_judged_when_the_memory_has_changed() -> None:
    ram = memory({**TABLES, **pages(4, [0x20]), **pages(4, [0x20], UC, first_slot=1)})
    looked = snapshot(ram, processors(), [Root(1)])
    ram.words[:] = 0
    assert len(analyse(looked, processors()).conflicts) == 1
    assert audit(ram, processors(), [Root(1)]).conflicts == ()


def test_of_too_many_roots_those_that_are_loaded_are_walked() -> None:
    """The last by number is loaded; all others are empty."""
    entries = {**chain(1999, 2, 3, 4, slots=(KERNEL, 0, 0)), (1998, 0): 2 << 12 | POINTER, **pages(4, [0x20])}
    roots = [*(Root(frame) for frame in range(10, 1999)), Root(1999, cpus=(0,))]
    found = audit(memory(entries, frames=2000), processors(), roots)
    assert [each.root for each in found.seen.of(0x20, 1)] == [1999]
    assert any("roots" in each.reason for each in found.dangling_entries)


def test_findings_are_by_kind_and_address() -> None:
    entries = {**TABLES, **pages(4, [0x30, 0x28, 0x20], UC), **pages(4, [0x30, 0x20], first_slot=9)}
    found = audited(entries)
    assert [(each.kind, each.start >> 12) for each in found.findings] == [
        (FindingKind.CONFLICT, 0x20),
        (FindingKind.CONFLICT, 0x30),
        (FindingKind.RAM_NOT_WB, 0x28),
    ]
