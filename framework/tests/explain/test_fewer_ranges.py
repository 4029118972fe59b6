"""Ranges of a machine in the eight registers of a guest: joined, rounded up with a hole, left out."""

from __future__ import annotations

from pytest_memtype import Hardware, MemType, MtrrRange
from pytest_memtype.dumps.read import read
from pytest_memtype.explain.imported_layout import fitted, layout_of
from pytest_memtype.machine.layout import intended, validate
from pytest_memtype.x86.mtrr import memory_type_at

UC, WC, WP, WB = MemType.UC, MemType.WC, MemType.WP, MemType.WB


def debug(*registers: str, tom2: str = "") -> str:
    """What mtrr=debug prints over an uncached default."""
    lines = [f"  {number} base {each}" for number, each in enumerate(registers)]
    return "\n".join(["MTRR default type: uncachable", "MTRR variable ranges enabled:", *lines, tom2])


# Two public logs: UC holes in a range of 2 GiB that is the first to go.
def test_holes_in_what_is_left_out_go_with_it() -> None:
    text = debug(
        "0000000000 mask 7F80000000 write-back",
        "0080000000 mask 7FF0000000 write-back",
        "0090000000 mask 7FFE000000 write-back",
        "0092000000 mask 7FFF000000 write-back",
        "0100000000 mask 7F00000000 write-back",
        "0200000000 mask 7E00000000 write-back",
        "0400000000 mask 7F80000000 write-back",
        "0470000000 mask 7FF0000000 uncachable",
        "0468000000 mask 7FF8000000 uncachable",
        "0467000000 mask 7FFF000000 uncachable",
    )
    made = fitted(layout_of(read(text)), Hardware(memory="256M"))
    assert [each for each in made.notes if "left out" in each] == [
        "2G WB at 0x400000000 is left out: there are too many for a guest's registers"
    ]
    assert [(each.base, each.memtype) for each in made.layout.ranges] == [
        (0, WB),
        (0x80000000, WB),
        (0x90000000, WB),
        (0x92000000, WB),
        (0x100000000, WB),
        (0x200000000, WB),
    ]


# Public logs of AMD's machines: 13f000000 is 1G less 16M above 4 GiB.
def test_tom2_is_rounded_up_with_a_hole() -> None:
    text = debug(
        "000000000000 mask FFFF80000000 write-back",
        "000080000000 mask FFFFE0000000 write-back",
        "00009F800000 mask FFFFFF800000 uncachable",
        tom2="TOM2: 000000013f000000 aka 5104M",
    )
    made = fitted(layout_of(read(text)), Hardware(memory="256M"))
    validate(made.layout, physical_bits=40)
    assert made.layout.ranges == (
        MtrrRange(0, "2G", WB),
        MtrrRange(0x80000000, "512M", WB),
        MtrrRange(0x9F800000, "8M", UC),
        MtrrRange(0x100000000, "1G", WB),
        MtrrRange(0x13F000000, "16M", UC),
    )
    assert not any("too many" in each for each in made.notes)


def test_no_hole_over_what_others_say() -> None:
    """Write-combining memory right behind TOM2 stays so: a range is left out instead."""
    text = debug(
        "000000000000 mask FFFF80000000 write-back",
        "000080000000 mask FFFFE0000000 write-back",
        "00009F800000 mask FFFFFF800000 uncachable",
        "00013F000000 mask FFFFFF000000 write-combining",
        tom2="TOM2: 000000013f000000 aka 5104M",
    )
    made = fitted(layout_of(read(text)), Hardware(memory="256M"))
    state = intended(made.layout, physical_bits=40)
    assert memory_type_at(state, 0x13F000000) is WC
    assert len([each for each in made.notes if "too many" in each]) == 2


def test_what_fits_stays_as_it_is() -> None:
    text = debug("000000000000 mask FFFF80000000 write-back", tom2="TOM2: 000000013f000000 aka 5104M")
    made = fitted(layout_of(read(text)), Hardware(memory="256M"))
    assert [each.size >> 20 for each in made.layout.ranges] == [2048, 512, 256, 128, 64, 32, 16]


# Tom2ForceMemTypeWB is for what no range covers; a write-back range beside another has no defined type.
def test_tom2_gives_way_to_ranges() -> None:
    text = debug(
        "000000000000 mask FFFF80000000 write-back",
        "000100000000 mask FFFFFF000000 write-protect",
        tom2="TOM2: 0000000280000000 aka 10240M",
    )
    made = fitted(layout_of(read(text)), Hardware(memory="256M"))
    state = intended(made.layout, physical_bits=40)
    assert memory_type_at(state, 0x100000000) is WB
    assert "16M WP at 0x100000000 is left out: over a write-back range its type is undefined" in made.notes
