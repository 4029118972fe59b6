"""All mappings of a page are told: those of each address space, and no more than a reader wants."""

from __future__ import annotations

from dataclasses import replace

import pytest
from memtype_support.hand_made import (
    KERNEL,
    LARGE,
    POINTER,
    SEABIOS_FIXED,
    UC,
    WT,
    audited,
    chain,
    cpu,
    of_kind,
    pages,
)

from pytest_memtype.audit.findings import FindingKind
from pytest_memtype.audit.mappings import MOST
from pytest_memtype.x86.effective import EffectiveType, Severity
from pytest_memtype.x86.memtype import MemType

SLOTS = (KERNEL + 17, 0, 0)
ADDRESS = 0xFFFF888000000000


def two_spaces(
    first: dict[tuple[int, int], int], second: dict[tuple[int, int], int]
) -> dict[tuple[int, int], int]:
    """Two roots, 1 and 2, which have tables of their own from one slot of the kernel's half on: 10 and 20."""
    return {**chain(1, 11, 12, 10, slots=SLOTS), **chain(2, 21, 22, 20, slots=SLOTS), **first, **second}


def test_two_address_spaces_that_differ_at_one_kernel_address() -> None:
    """The conflict is between the two, so both are told."""
    entries = two_spaces(pages(10, range(0x100, 0x104)), pages(20, range(0x100, 0x104), UC))
    (conflict,) = of_kind(audited(entries, roots=[1, 2]), FindingKind.CONFLICT)
    assert conflict.danger is Severity.ERROR
    assert [(each.virtual, each.pages, each.memtype, each.root) for each in conflict.mappings] == [
        (ADDRESS, 4, MemType.WB, 1),
        (ADDRESS, 4, MemType.UC, 2),
    ]


def test_two_address_spaces_that_say_the_same_are_one() -> None:
    """Accessed and dirty (bits 5 and 6) are no difference: the processor sets them."""
    entries = two_spaces(pages(10, range(0x100, 0x104)), pages(20, range(0x100, 0x104), 0x60))
    seen = audited(entries, roots=[1, 2]).seen.of(0x100, 4)
    assert [(each.virtual, each.pages) for each in seen] == [(ADDRESS, 4)]


def test_user_mappings_are_told_for_each_address_space() -> None:
    entries = {**chain(1, 3, 4, 5), (2, 0): 3 << 12 | POINTER, **pages(5, [0x30])}
    seen = audited(entries, roots=[1, 2]).seen.of(0x30, 1)
    assert [(each.root, each.virtual, each.region) for each in seen] == [(1, 0, "user"), (2, 0, "user")]


def test_pages_in_a_row_are_one_mapping_and_others_are_not() -> None:
    entries = {
        **chain(1, 2, 3, 4),
        **pages(4, range(0x20, 0x24)),
        **pages(4, range(0x22, 0x25), WT, first_slot=4),
    }
    seen = audited(entries).seen.of(0x20, 5)
    assert [(each.virtual >> 12, each.start >> 12, each.pages, each.memtype) for each in seen] == [
        (0, 0x20, 4, MemType.WB),
        (4, 0x22, 3, MemType.WT),
    ]


@pytest.mark.parametrize(
    ("frame", "effective"), [(0, EffectiveType.WB), (0xA0, EffectiveType.UC), (0xC0, EffectiveType.WP)]
)
def test_a_large_page_has_the_type_of_the_page_asked_for(frame: int, effective: EffectiveType) -> None:
    """The first 2 MiB in one entry, over RAM, VGA window and ROMs."""
    entries = {**chain(1, 2, 3), (3, 0): LARGE}
    (mapping,) = audited(entries, cpu(fixed=SEABIOS_FIXED)).seen.of(frame, 1)
    assert mapping.effective is effective


def chained(entries: int) -> dict[tuple[int, int], int]:
    """Three tables, so many entries of each to the next one: the product of ways."""
    tables = {(table, slot): table + 1 << 12 | POINTER for table in (1, 2, 3) for slot in range(entries)}
    return {**tables, **pages(4, [0x20]), **pages(4, [0x20], UC, first_slot=1)}


@pytest.mark.parametrize("entries", [1, 6, 12, 200])
def test_the_mappings_of_a_page_have_a_bound(entries: int) -> None:
    (conflict,) = of_kind(audited(chained(entries)), FindingKind.CONFLICT)
    ways = 2 * entries**3
    assert len(conflict.mappings) == min(ways, MOST)
    assert conflict.complete is (ways <= MOST)
    assert ("and at least" in str(conflict)) is (ways > MOST)


def test_a_mapping_says_where_it_is() -> None:
    entries = {**chain(1, 2, 3, 4), **pages(4, [0x20])}
    (mapping,) = audited(entries).seen.of(0x20, 1)
    assert mapping.where == "user"
    assert replace(mapping, process=(7, "X")).where == "X:7"
