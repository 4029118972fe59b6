"""Effective types page by page, large pages over several MTRR types included, and how much of that is
done."""

from __future__ import annotations

import pytest
from memtype_support.hand_made import LARGE, POINTER, UC, WT, audited, chain, cpu, memory, of_kind, pages

from pytest_memtype.audit.findings import FindingKind
from pytest_memtype.audit.types import (
    MOST_MIXED,
    CacheRegisters,
    assign_types,
    conflicts,
    effective_at,
    grade,
)
from pytest_memtype.audit.walk import walk
from pytest_memtype.x86.effective import EffectiveType, Severity, Vendor, effective_code
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.pat import RESET_PAT

MASK_1M = (1 << 40) - (1 << 20) | 1 << 11


def pieces(entries: dict[tuple[int, int], int], typing: CacheRegisters) -> list[tuple[int, int, int]]:
    return list(assign_types(walk(memory(entries), [1]), typing, frames=64).pieces)


def test_pages_by_their_types_without_mtrrs() -> None:
    entries = {**chain(1, 2, 3, 4), **pages(4, [8, 9, 0x200000], WT), **pages(4, [9, 10], UC, first_slot=9)}
    wt, uc = 1 << effective_code(EffectiveType.WT), 1 << effective_code(EffectiveType.UC)
    assert pieces(entries, CacheRegisters(RESET_PAT, None, Vendor.INTEL)) == [
        (8, 1, wt),
        (9, 1, wt | uc),
        (10, 1, uc),
        (0x200000, 1, wt),
    ]


@pytest.mark.parametrize("frame", [0x10000, 0x40000000 >> 12, 0x200000000 >> 12])
def test_a_large_page_over_two_mtrr_types(frame: int) -> None:
    """The second MiB of 2 is UC; below and above what is counted page by page."""
    registers = cpu(variable=[((frame << 12) + (1 << 20), MASK_1M)])
    entries = {**chain(1, 2, 3), (3, 0): frame << 12 | LARGE}
    found = audited(entries, registers)
    wb, uc = 1 << effective_code(EffectiveType.WB), 1 << effective_code(EffectiveType.UC)
    assert list(found.seen.walk.pieces) == [(frame, 256, wb), (frame + 256, 256, uc)]
    (mixed,) = of_kind(found, FindingKind.MIXED)
    assert set(mixed.effective) == {EffectiveType.WB, EffectiveType.UC}


def test_mixed_pages_have_a_bound_and_what_is_cut_is_said() -> None:
    """Ten pages of 1 GiB, each with its first MiB UC, where four are looked at page by page."""
    holes = (1 << 30) - (1 << 20) | 1 << 11
    entries = {**chain(1, 2), **{(2, slot): (slot + 4) << 30 | LARGE for slot in range(10)}}
    found = audited(entries, cpu(variable=[(0, holes)]))
    looked_at = MOST_MIXED >> 18
    assert found.seen.walk.unseen == 10 - looked_at
    assert found.cut == (
        f"{10 - looked_at} large pages over several MTRR types were not looked at page by page",
    )
    assert len(of_kind(found, FindingKind.MIXED)) == 10
    assert sum(found.seen.walk.pieces.frames) == MOST_MIXED
    assert found.conflicts == ()


def test_conflicts_are_pages_of_more_than_one_type() -> None:
    entries = {**chain(1, 2, 3, 4), **pages(4, [8, 9]), **pages(4, [9], UC, first_slot=5)}
    (found,) = conflicts(
        assign_types(walk(memory(entries), [1]), CacheRegisters(RESET_PAT, None, Vendor.INTEL), frames=64)
    )
    assert found[:2] == (9, 1)


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        # The table in docs/audit.md's words: the worst pair decides.
        ((), Severity.OK),
        (("UC", "CD"), Severity.OK),
        (("UC", "WC"), Severity.INFO),
        (("WT", "WB"), Severity.WARNING),
        (("UC", "WB"), Severity.ERROR),
        (("UC", "WC", "WB"), Severity.FATAL),
    ],
)
def test_the_worst_pair_decides(types: tuple[str, ...], expected: Severity) -> None:
    assert grade(sum(1 << effective_code(getattr(EffectiveType, each)) for each in types)) is expected


def test_the_type_of_one_page() -> None:
    # Intel SDM: UC- over WC is WC, UC stays UC.
    wc = CacheRegisters(RESET_PAT, cpu(variable=[(0x40000001, MASK_1M)]).mtrr, Vendor.INTEL)
    assert effective_at(0x40000, MemType.UC_MINUS, wc) is EffectiveType.WC
    assert effective_at(0x40000, MemType.UC, wc) is EffectiveType.UC
    assert effective_at(0x40100, MemType.UC_MINUS, wc) is EffectiveType.UC


def test_pointers_are_no_pages() -> None:
    assert pieces({(1, 0): 2 << 12 | POINTER}, CacheRegisters(RESET_PAT, None, Vendor.INTEL)) == []
