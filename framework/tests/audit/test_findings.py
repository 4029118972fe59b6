"""What is found fault with, on page tables made by hand."""

from __future__ import annotations

import tracemalloc

import pytest
from memtype_support.hand_made import (
    LARGE,
    MTRRS_ON,
    OWNERS,
    PAGE,
    POINTER,
    SEABIOS_FIXED,
    UC,
    WT,
    audited,
    chain,
    cpu,
    of_kind,
    pages,
    processors,
)

from pytest_memtype.audit.findings import MOST_FINDINGS, MOST_TRACKED, FindingKind, Tracked, find_all
from pytest_memtype.x86.effective import EffectiveType, Severity
from pytest_memtype.x86.memtype import MemType

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
        (0xFDFFE000, 2, "BAR 0", Severity.ERROR),
        (0xFE000000, 1, "BAR 1", Severity.ERROR),
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


BAR = range(0xFD000, 0xFD004)


@pytest.mark.parametrize(
    ("listed", "bits", "variable", "expected"),
    [
        # The BAR is WB by the default type: what the list means would be WC, and what is mapped is WT.
        (MemType.WC, WT, (), [("FATAL", (EffectiveType.WT,), False)]),
        (MemType.WT, WT, (), []),
        # UC and UC- differ in the page table, and are one where the MTRRs aren't WC.
        (MemType.UC_MINUS, UC, (), [("OK", (EffectiveType.UC,), True)]),
        (MemType.UC_MINUS, UC, ((0xFD000000 | 1, 0xFFFF000800),), [("INFO", (EffectiveType.UC,), False)]),
    ],
)
def test_tracked_with_another_type(
    listed: MemType, bits: int, variable: tuple[tuple[int, int], ...], expected: list[tuple[object, ...]]
) -> None:
    records = [Tracked(0xFD001000, 0x2000, "the list", listed)]
    entries = {**TABLES, **pages(4, BAR, bits)}
    found = of_kind(audited(entries, cpu(variable=variable), tracked=records), FindingKind.TRACKED_OTHERWISE)
    assert [(each.danger.name, each.effective, each.benign is not None) for each in found] == expected
    assert all((each.start, each.pages) == (0xFD001000, 2) for each in found)


def test_of_what_is_tracked_otherwise_each_mtrr_type_is_told() -> None:
    """UC- is listed and UC is mapped: the second of two pages is WC by the MTRRs, which UC- gives way to."""
    one_page = (0xFD002000 | 1, (1 << 40) - (1 << 12) | 1 << 11)
    records = [Tracked(0xFD001000, 0x2000, "the list", MemType.UC_MINUS)]
    entries = {**TABLES, **pages(4, BAR, UC)}
    found = of_kind(
        audited(entries, cpu(variable=[one_page]), tracked=records), FindingKind.TRACKED_OTHERWISE
    )
    assert [(each.start, each.pages, each.danger) for each in found] == [
        (0xFD001000, 1, Severity.OK),
        (0xFD002000, 1, Severity.INFO),
    ]


def test_a_record_without_a_mapping_or_of_ram_is_not_tracked_otherwise() -> None:
    """RAM has page flags for it. Nothing maps the second device page."""
    records = [
        Tracked(0x200000, 0x1000, "RAM", MemType.WC),
        Tracked(0xFD001000, 0x1000, "device", MemType.WC),
        Tracked(0xFD000000, 0x1000, "no type"),
    ]
    entries = {**TABLES, **pages(4, [0x200, 0xFD000])}
    assert of_kind(audited(entries, tracked=records), FindingKind.TRACKED_OTHERWISE) == []


def test_the_work_on_large_pages_and_records_is_as_their_sum() -> None:
    """Ten thousand entries of one large page, and a record of every other page in it: no 2.6 million rows."""
    bar = 0xFD000000
    entries = {**chain(1, 2)}
    entries |= {(2, slot): 100 + slot << 12 | POINTER for slot in range(20)}
    entries |= {(100 + table, slot): bar | LARGE | UC for table in range(20) for slot in range(512)}
    records = [Tracked(bar + page * 0x1000, 0x1000, "the list", MemType.WC) for page in range(0, 512, 2)]
    seen = audited(entries, frames=1024).seen
    tracemalloc.start()
    try:
        every = list(find_all(seen.walk, seen, processors(), OWNERS, records, []))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    found = [each.start for each in every if each.kind is FindingKind.TRACKED_OTHERWISE]
    assert found == [each.start for each in records]
    assert peak < 8 << 20


def test_more_records_than_any_kernel_has_are_cut_and_said() -> None:
    records = [
        Tracked(0xFD000000, 0x1000, f"list {number:x}", MemType.WC) for number in range(MOST_TRACKED + 1)
    ]
    found = audited({**TABLES, **pages(4, BAR, UC)}, tracked=records)
    assert found.cut == (
        f"only {MOST_TRACKED} of {MOST_TRACKED + 1} records of tracked memory were compared, so that memory "
        "without a record wasn't looked for",
    )
    assert of_kind(found, FindingKind.UNTRACKED) == []
    (otherwise,) = of_kind(found, FindingKind.TRACKED_OTHERWISE)
    assert otherwise.reason.startswith("list 0, list 1, list 10, ")
    assert f" and {MOST_TRACKED - 8} more: WC is recorded" in otherwise.reason


def test_a_record_of_memory_that_no_processor_has_is_left_out_and_said() -> None:
    records = [Tracked(1 << 70, 0x1000, "A", MemType.WC), Tracked(0xFD000000, 0x1000, "B", MemType.WC)]
    found = audited({**TABLES, **pages(4, BAR, UC)}, tracked=records)
    assert found.cut == ("1 records are of memory that no processor can address",)
    assert len(of_kind(found, FindingKind.TRACKED_OTHERWISE)) == 1


def test_an_endless_name_is_cut() -> None:
    records = [Tracked(0xFD008000, 0x1000, "x" * 5000)]
    (unmapped,) = of_kind(audited({**TABLES, **pages(4, BAR)}, tracked=records), FindingKind.UNMAPPED)
    assert unmapped.reason == "x" * 256 + "...: nothing maps it"


def test_below_1_mib_linux_maps_what_it_likes() -> None:
    records = [Tracked(0xC0000, 0x1000, "the verifier", MemType.UC)]
    (found,) = of_kind(
        audited({**TABLES, **pages(4, [0xC0])}, tracked=records), FindingKind.TRACKED_OTHERWISE
    )
    assert found.benign is not None
