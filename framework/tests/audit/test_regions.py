"""What Linux has at an address, by the order of what it moves (Documentation/arch/x86/x86_64/mm.rst)."""

from __future__ import annotations

import pytest
from memtype_support.hand_made import PAGE, POINTER, memory

from pytest_memtype.audit.regions import regions
from pytest_memtype.audit.walk import walk

UNIT = 1 << 39


def used(*slots: int, depth: int = 4) -> dict[tuple[int, int], int]:
    """Each of these 512 GiB units has a page; with five levels all are in the last 256 TiB."""
    top = {(1, 511): 2 << 12 | POINTER} if depth == 5 else {}
    above = 2 if depth == 5 else 1
    units = {(above, slot): 3 << 12 | POINTER for slot in slots}
    return {**top, **units, (3, 0): 4 << 12 | POINTER, (4, 0): 5 << 12 | POINTER, (5, 0): 9 << 12 | PAGE}


@pytest.mark.parametrize("depth", [4, 5])
@pytest.mark.parametrize(
    ("slots", "names"),
    [
        # Direct map, vmalloc, vmemmap; then the image.
        ((273, 402, 468, 511), {273: "direct map", 402: "vmalloc", 468: "vmemmap"}),
        # A direct map of more than 512 GiB.
        ((280, 281, 402, 468, 511), {280: "direct map", 281: "direct map", 402: "vmalloc", 468: "vmemmap"}),
        # Vmalloc right behind it.
        ((280, 281, 468, 511), {280: "direct map", 281: "vmalloc", 468: "vmemmap"}),
        ((290,), {290: "direct map"}),
    ],
)
def test_by_their_order(slots: tuple[int, ...], names: dict[int, str], depth: int) -> None:
    found = regions(walk(memory(used(*slots, depth=depth)), [1], depth=depth))
    assert {slot: found.name((0xFFFF << 48) + slot * UNIT) for slot in names} == names


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (0x1000, "user"),
        (0xFFFF880000000000, "LDT"),
        (0xFFFFFE0000001000, "CPU entry area"),
        (0xFFFFFF0000000000, "espfix"),
        (0xFFFFFFFF81000000, "kernel image"),
        (0xFFFFFFFFC0001000, "module"),
        (0xFFFFFFFFFF5FF000, "fixmap"),
        (0xFFFFC00000000000, "kernel"),
    ],
)
def test_fixed_places(address: int, name: str) -> None:
    assert regions(walk(memory({}), [1])).name(address) == name
