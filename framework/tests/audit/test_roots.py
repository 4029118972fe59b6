"""Which pages are roots: those loaded, those that share the kernel's half, and those that still do."""

from __future__ import annotations

import numpy as np
import pytest
from memtype_support.hand_made import KERNEL, POINTER, memory
from memtype_support.naive_tables import ArrayRam

from pytest_memtype.audit.roots import Root, find_roots, loaded_roots, roots_from_guest, still_roots
from pytest_memtype.audit.walk import most_roots

SLOTS = {KERNEL: 20, 300: 21, 510: 22, 511: 23}


def kernel_half(*frames: int) -> dict[tuple[int, int], int]:
    return {(frame, slot): table << 12 | POINTER for frame in frames for slot, table in SLOTS.items()}


def frames(roots: tuple[Root, ...]) -> list[int]:
    return [root.frame for root in roots]


def test_cr3_without_its_low_and_high_bits() -> None:
    """PCID and caching bits are below 12; bits 52 and above are no address (bit 63: no flush)."""
    found = loaded_roots({0: 0x5018, 1: 0x5FFF | 1 << 63, 2: 0x3000})
    assert found == (Root(3, cpus=(2,)), Root(5, cpus=(0, 1)))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, [8, 12]),
        # Accessed and dirty differ from root to root.
        ({(12, 300): 21 << 12 | POINTER | 0x60}, [8, 12]),
        # What the kernel maps late may be missing, another table may not be there.
        ({(12, 300): 0}, [8, 12]),
        ({(12, 300): 24 << 12 | POINTER}, [8]),
        # Half of it is too little.
        ({(12, 300): 0, (12, 510): 0}, [8]),
    ],
)
def test_pages_that_share_the_kernels_half(change: dict[tuple[int, int], int], expected: list[int]) -> None:
    ram = memory(kernel_half(8, 12) | change)
    assert frames(find_roots(ram, [Root(8, cpus=(0,))])) == expected


def test_roots_that_the_guest_vouches_for_must_still_share_it() -> None:
    ram = memory(kernel_half(8, 12))
    found = roots_from_guest(
        ram, [Root(8, cpus=(0,))], {12 << 12: (7, "X"), 14 << 12: (9, "gone"), 1 << 40: (1, "no")}
    )
    assert [(root.frame, root.process) for root in found] == [(8, None), (12, (7, "X"))]


def test_of_roots_found_before_those_stay_that_still_are() -> None:
    """12 is one still, 14 isn't any more; 16 began later and isn't loaded; 18 is loaded by now."""
    ram = memory(kernel_half(8, 12, 16, 18))
    likely = (Root(8, cpus=(0,)), Root(12), Root(14), Root(1 << 30))
    found = still_roots(ram, [Root(18, cpus=(0,))], likely)
    assert [(root.frame, root.cpus) for root in found] == [(8, ()), (12, ()), (18, (0,))]


def test_twins_come_with_their_roots() -> None:
    user = {(12, 3): 30 << 12 | POINTER | 1 << 63, (13, 3): 30 << 12 | POINTER}
    ram = memory(kernel_half(8, 12) | user)
    likely = find_roots(ram, [Root(8, cpus=(0,))])
    found = still_roots(ram, [Root(8, cpus=(0,))], likely)
    assert [(root.frame, root.pti_user_half) for root in found] == [(8, False), (12, False), (13, True)]


def test_no_more_are_found_than_would_be_walked() -> None:
    """All of memory looks like roots."""
    words = np.zeros((4000, 512), np.uint64)
    for slot, table in SLOTS.items():
        words[:, slot] = table << 12 | POINTER
    ram = ArrayRam(words)
    limit = most_roots(ram)
    assert limit < 4000
    assert limit < len(find_roots(ram, [Root(8, cpus=(0,))])) <= limit + 2
