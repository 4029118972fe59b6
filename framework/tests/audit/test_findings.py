"""What is found fault with, on page tables made by hand."""

from __future__ import annotations

import pytest
from hand_made import (
    MTRRS_ON,
    PAGE,
    POINTER,
    SEABIOS_FIXED,
    UC,
    audited,
    chain,
    cpu,
    of_kind,
    pages,
)

from pytest_memtype.audit.findings import MOST_FINDINGS, FindingKind, Tracked
from pytest_memtype.x86.effective import Danger, EffectiveType

TABLES = chain(1, 2, 3, 4)
WINDOW = range(0xA0, 0xC0)


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        # Eight ranges of 16 KiB, the lowest in the lowest byte. SMM has no paging, so it uses what the MTRRs
        # say; the page table says UC, which is UC whatever they say (Intel SDM, table of effective types).
        (0, [(0xA0, 0x20, "OK", True)]),
        (0x0606060606060606, [(0xA0, 0x20, "ERROR", False)]),
        (0x0606060600000000, [(0xA0, 0x10, "OK", True), (0xB0, 0x10, "ERROR", False)]),
        (0x0000000006060606, [(0xA0, 0x10, "ERROR", False), (0xB0, 0x10, "OK", True)]),
        (0x0000010000000000, [(0xA0, 0x14, "OK", True), (0xB4, 4, "INFO", False), (0xB8, 8, "OK", True)]),
    ],
)
def test_smram_is_told_by_the_type_that_smm_uses(
    window: int, expected: list[tuple[int, int, str, bool]]
) -> None:
    fixed = (*SEABIOS_FIXED[:2], window, *SEABIOS_FIXED[3:])
    found = of_kind(audited({**TABLES, **pages(4, WINDOW, UC)}, cpu(fixed=fixed)), FindingKind.SMRAM)
    assert [
        (each.start >> 12, each.pages, each.danger.name, each.benign is not None) for each in found
    ] == expected
    assert {each.effective for each in found} == {(EffectiveType.UC,)}


def test_a_conflict_over_two_owners_is_told_to_both() -> None:
    """BAR 0 ends at 0xFE000000, where BAR 1 begins; the MTRRs make both WB."""
    both = range(0xFDFFE, 0xFE001)
    entries = {**TABLES, **pages(4, both), **pages(4, both, UC, first_slot=100)}
    found = of_kind(audited(entries), FindingKind.CONFLICT)
    assert [(each.start, each.pages, each.owner, each.danger) for each in found] == [
        (0xFDFFE000, 2, "BAR 0", Danger.ERROR),
        (0xFE000000, 1, "BAR 1", Danger.ERROR),
    ]


def test_an_info_of_the_first_mib_stays_benign_beside_one_above() -> None:
    """UC and WC from 0xFF000 on: below 1 MiB Linux means it so, above it doesn't."""
    # The PAT's slot 1 is WC, as Linux has it; all memory is UC by the MTRRs.
    at = cpu(pat=0x0407050600070106, default_type=MTRRS_ON)
    across = range(0xFF, 0x101)
    entries = {**TABLES, **pages(4, across, 1 << 3), **pages(4, across, UC, first_slot=100)}
    found = of_kind(audited(entries, at), FindingKind.CONFLICT)
    assert [(each.start >> 12, each.pages, each.benign is not None) for each in found] == [
        (0xFF, 1, True),
        (0x100, 1, False),
    ]


def test_findings_of_a_kind_have_a_bound_and_what_is_cut_is_said() -> None:
    """Every other page of RAM is UC, in 20 tables: 5,120 findings of RAM that isn't write-back."""
    entries = {**chain(1, 2, 3)}
    entries |= {(3, slot): 100 + slot << 12 | POINTER for slot in range(20)}
    for table in range(20):
        entries |= {
            (100 + table, slot): 0x1000 + table * 512 + slot << 12 | PAGE | (UC if slot % 2 else 0)
            for slot in range(512)
        }
    found = audited(entries, frames=1024)
    assert len(of_kind(found, FindingKind.RAM_NOT_WB)) == MOST_FINDINGS
    assert found.cut == (f"there are more than {MOST_FINDINGS} findings of the kind RAM not write-back",)


def test_tracked_memory_is_not_untracked_however_records_overlap() -> None:
    bar = range(0xFD000, 0xFD010)
    records = [
        Tracked(0xFD001000, 0x3000, "A"),
        Tracked(0xFD002000, 0x4000, "B"),
        Tracked(0xFD001000, 0x1000, "C"),
    ]
    found = of_kind(audited({**TABLES, **pages(4, bar)}, tracked=records), FindingKind.UNTRACKED)
    assert [(each.start, each.pages) for each in found] == [(0xFD000000, 1), (0xFD006000, 10)]


def test_what_is_tracked_and_mapped_nowhere() -> None:
    records = [
        Tracked(0xFD001000, 0x1000, "A"),
        Tracked(0xFD004000, 0x1000, "B"),
        Tracked(0xFD004000, 0x1000, "C"),
    ]
    found = of_kind(audited({**TABLES, **pages(4, [0xFD001])}, tracked=records), FindingKind.UNMAPPED)
    assert [(each.start, each.reason) for each in found] == [(0xFD004000, "B and C: nothing maps it")]
