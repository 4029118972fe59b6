"""Which findings are as Linux means them."""

from __future__ import annotations

import pytest
from memtype_support.hand_made import UC, audited, chain, cpu, of_kind, pages

from pytest_memtype.audit.benign import mark_benign
from pytest_memtype.audit.findings import Finding, FindingKind
from pytest_memtype.x86.effective import Severity

#: Tables at 0xFFFFFFFFFF400000 and, as a vmalloc would be, elsewhere.
FIXMAP, ELSEWHERE = (511, 511, 506), (402, 0, 0)


def finding(kind: FindingKind, danger: Severity, start: int, pages: int = 1) -> Finding:
    return Finding(kind, danger, start, pages, (), "somebody", "because")


@pytest.mark.parametrize(
    ("kind", "danger", "start", "benign"),
    [
        (FindingKind.UNTRACKED, Severity.INFO, 0xA0000, True),
        (FindingKind.UNTRACKED, Severity.INFO, 0x100000, False),
        (FindingKind.CONFLICT, Severity.INFO, 0xA0000, True),
        (FindingKind.CONFLICT, Severity.ERROR, 0xA0000, False),
        (FindingKind.CONFLICT, Severity.INFO, 0x100000, False),
        (FindingKind.SMRAM, Severity.OK, 0xA0000, True),
        (FindingKind.SMRAM, Severity.INFO, 0xA0000, False),
        (FindingKind.TRACKED_OTHERWISE, Severity.ERROR, 0xC0000, True),
        (FindingKind.TRACKED_OTHERWISE, Severity.OK, 0xFD000000, True),
        (FindingKind.TRACKED_OTHERWISE, Severity.INFO, 0xFD000000, False),
        (FindingKind.RAM_NOT_WB, Severity.INFO, 0x1000, False),
        (FindingKind.CPUS_DISAGREE, Severity.ERROR, 0, False),
    ],
)
def test_by_kind_danger_and_place(kind: FindingKind, danger: Severity, start: int, *, benign: bool) -> None:
    assert (mark_benign(finding(kind, danger, start)).benign is not None) == benign


def test_a_finding_that_goes_over_1_mib_is_not_below_it() -> None:
    assert mark_benign(finding(FindingKind.UNTRACKED, Severity.INFO, 0xFF000, 2)).benign is None


@pytest.mark.parametrize(("slots", "benign"), [((FIXMAP,), True), ((FIXMAP, ELSEWHERE), False)])
def test_the_fixmap_needs_no_record(slots: tuple[tuple[int, int, int], ...], *, benign: bool) -> None:
    entries: dict[tuple[int, int], int] = {}
    for number, way in enumerate(slots):
        tables = (1, *(10 * (number + 1) + level for level in range(3)))
        entries |= {**chain(*tables, slots=way), **pages(tables[-1], [0xFE000], UC)}
    (found,) = of_kind(audited(entries, cpu(), tracked=[]), FindingKind.UNTRACKED)
    assert (found.benign is not None) == benign
