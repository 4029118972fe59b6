"""The registers in coreboot's log: what it leaves, what it sets for a while, and what is cut.

The lines are of public logs, as src/cpu/x86/mtrr/mtrr.c prints them.
"""

from __future__ import annotations

import pytest

from pytest_memtype.dumps.facts import Mtrrs, Register
from pytest_memtype.dumps.read import read
from pytest_memtype.explain.imported_layout import layout_of
from pytest_memtype.x86.memtype import MemType

UC, WC, WP, WB = MemType.UC, MemType.WC, MemType.WP, MemType.WB

LEFT = """\
MTRR: Physical address space:
0x0000000000000000 - 0x00000000000a0000 size 0x000a0000 type 6
MTRR: Fixed MSR 0x250 0x0606060606060606
call enable_fixed_mtrr()
CPU physical address size: 39 bits
MTRR: default type WB/UC MTRR counts: 3/8.
MTRR: WB selected as default type.
MTRR: 0 base 0x000000007b800000 mask 0x0000007fff800000 type 0
MTRR: 1 base 0x00000000b0000000 mask 0x0000007ff0000000 type 1
MTRR: 2 base 0x00000000c0000000 mask 0x0000007fc0000000 type 0
"""
TEMPORARY = """\
MTRR: TEMPORARY Physical address space:
0x00000000ff000000 - 0x0000000100000000 size 0x01000000 type 5
MTRR: default type WB/UC MTRR counts: 10/2.
MTRR: UC selected as default type.
MTRR: 0 base 0x0000000000000000 mask 0x0000007fc0000000 type 6
MTRR: 1 base 0x00000000ff000000 mask 0x0000007fff000000 type 5
"""


def listing(text: str) -> Mtrrs:
    (found,) = read(text).mtrrs
    return found


def test_what_is_temporary_is_put_back() -> None:
    """remove_temp_solution() puts the first solution back, and says nothing."""
    found = listing(LEFT + TEMPORARY)
    assert (found.default, found.result, found.complete) == (WB, True, True)
    assert [(each.base, each.memtype) for each in found.variable] == [
        (0x7B800000, UC),
        (0xB0000000, WC),
        (0xC0000000, UC),
    ]
    assert max(found.lines) == 10


def test_only_what_is_temporary_is_said_to_be() -> None:
    found = listing(TEMPORARY)
    assert (found.default, found.result, len(found.variable)) == (UC, False, 2)
    imported = layout_of(read(TEMPORARY))
    assert any("TEMPORARY" in each for each in imported.notes)
    assert not imported.complete


def test_what_is_temporary_never_wins() -> None:
    proc = "reg00: base=0x000000000 (    0MB), size= 2048MB, count=1: write-back\n"
    imported = layout_of(read(TEMPORARY + proc))
    assert [(each.base, each.size) for each in imported.layout.ranges] == [(0, 2 << 30)]
    # Not even where a line of what was left is cut.
    found = listing(LEFT.replace("type 1\n", "ty\n") + TEMPORARY)
    assert (found.default, found.result, found.complete) == (WB, True, False)


def test_the_last_of_two_boots_counts() -> None:
    second = LEFT.replace("base 0x00000000c0000000", "base 0x0000000080000000")
    assert listing(LEFT + second).variable[-1].base == 0x80000000


@pytest.mark.parametrize(
    "text",
    [
        LEFT.replace("MTRR: 2 base 0x00000000c0000000 mask 0x0000007fc0000000 type 0\n", "MTRR: 2 base"),
        LEFT.replace("MTRR: 2 base 0x00000000c0000000 mask 0x0000007fc0000000 type 0\n", "MTRR: 2"),
        LEFT.replace("mask 0x0000007fc0000000 type 0", "mask 0x0000007f"),
        # WB was chosen, which takes 3.
        LEFT.replace("MTRR: 2 base 0x00000000c0000000 mask 0x0000007fc0000000 type 0\n", ""),
        LEFT.replace("MTRR: 1 base 0x00000000b0000000 mask 0x0000007ff0000000 type 1\n", "").replace(
            "MTRR: default type WB/UC MTRR counts: 3/8.\n", ""
        ),
    ],
)
def test_registers_that_are_missing(text: str) -> None:
    assert not listing(text).complete
    assert any("registers may be missing" in each for each in layout_of(read(text)).notes)


def test_the_count_of_what_was_chosen() -> None:
    assert listing(LEFT).complete
    uc = LEFT.replace("counts: 3/8", "counts: 8/3").replace("WB selected", "UC selected")
    assert listing(uc).complete


def test_some_of_the_fixed_ranges() -> None:
    notes = layout_of(read(LEFT)).notes
    assert any("fixed ranges are incomplete in the text" in each for each in notes)


def test_fixed_ranges_as_amd_has_them() -> None:
    """MTRR_FIXED_WRBACK_BITS: RdMem and WrMem are set beside the type."""
    lines = [f"MTRR: Fixed MSR {msr:#x} 0x1e1e1e1e1e1e1e1e\n" for msr in (0x250, 0x258, 0x259)]
    lines += [f"MTRR: Fixed MSR {msr:#x} 0x1e1e1e1e1e1e1e1e\n" for msr in range(0x268, 0x270)]
    assert [memtype for _, memtype in listing("".join(lines) + LEFT.replace("0606", "1e1e")).fixed] == [WB]


OLD = """\
Setting variable MTRR 0, base:    0MB, range: 2048MB, type WB
Setting variable MTRR 1, base: 2048MB, range:  512MB, type WB
"""


def test_coreboots_old_words() -> None:
    found = listing(OLD)
    assert found.source == "coreboot"
    assert found.variable == (
        Register(0, 0, WB, size=2 << 30, line=1),
        Register(1, 2 << 30, WB, size=512 << 20, line=2),
    )


@pytest.mark.parametrize(
    "text",
    [
        OLD + "MTRR MAP PFN: 0000000000100000 - 0000000000450000\n",
        "total RAM covered: 16352M\n" + OLD,
        "rangeX: 0000000000000000 - 00000000ae000000\n" + OLD,
        OLD + "Setting variable MTRR 5, base: 4GB, range: 4GB, type WB\n",
        OLD + "After WB checking\n",
        "".join(f"[    0.166148] {each}\n" for each in OLD.splitlines()),
    ],
)
def test_what_mtrr_cleanup_tries_is_not_coreboots(text: str) -> None:
    assert read(text).mtrrs == ()
