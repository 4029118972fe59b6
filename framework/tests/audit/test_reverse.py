"""From an entry back to its addresses."""

from __future__ import annotations

import pytest
from memtype_support.hand_made import KERNEL, PAGE, POINTER, chain, memory

from pytest_memtype.audit.reverse import Path, Paths, canonical
from pytest_memtype.audit.walk import walk


@pytest.mark.parametrize(
    ("virtual", "depth", "expected"),
    [
        # Intel SDM vol. 1, "Canonical Addressing": bit 47, or bit 56 with five levels, goes on to bit 63.
        (0x7FFFFFFFF000, 4, 0x7FFFFFFFF000),
        (0x800000000000, 4, 0xFFFF800000000000),
        (0xFFFFFFFFF000, 4, 0xFFFFFFFFFFFFF000),
        (0x800000000000, 5, 0x800000000000),
        (1 << 56, 5, 0xFF << 56),
    ],
)
def test_canonical(virtual: int, depth: int, expected: int) -> None:
    assert canonical(virtual, depth) == expected


def test_an_address_is_made_of_the_slots_on_the_way() -> None:
    slots = (1, 2, 3)
    found = walk(memory({**chain(1, 2, 3, 4, slots=slots), (4, 5): 9 << 12 | PAGE}), [1])
    assert list(Paths(found).to(1, 0, 5)) == [Path(1, 1 << 39 | 2 << 30 | 3 << 21 | 5 << 12)]


def test_all_ways_to_a_page_table() -> None:
    """A last table that three entries of one directory lead to."""
    entries = {
        **chain(1, 2, 3, 4),
        (3, 7): 4 << 12 | POINTER,
        (3, 9): 4 << 12 | POINTER,
        (4, 0): 9 << 12 | PAGE,
    }
    found = walk(memory(entries), [1])
    assert [path.virtual >> 21 for path in Paths(found).to(1, 0, 0)] == [0, 7, 9]


def test_the_kernels_half_of_many_roots_is_one_way() -> None:
    entries = {(root, KERNEL): 20 << 12 | POINTER for root in range(1, 11)}
    entries |= {(3, KERNEL + 1): 20 << 12 | POINTER, **chain(20, 21, 22), (22, 0): 9 << 12 | PAGE}
    found = walk(memory(entries), list(range(1, 11)))
    assert [path.virtual >> 39 & 511 for path in Paths(found).to(1, 0, 0)] == [KERNEL, KERNEL + 1]
