"""The MTRRs as Linux prints them at boot, and Xen: with words in between, cut at the top, with TOM2.

The lines are of public logs; their forms those of print_mtrr_state() in both.
"""

from __future__ import annotations

import pytest

from pytest_memtype.dumps.facts import Mtrrs, Span
from pytest_memtype.dumps.read import read
from pytest_memtype.explain.imported_layout import layout_of
from pytest_memtype.x86.memtype import MemType

UC, WT, WP, WB = MemType.UC, MemType.WT, MemType.WP, MemType.WB

HEAD = """\
[    0.000027] MTRR default type: uncachable
[    0.000028] MTRR fixed ranges enabled:
[    0.000030]   00000-9FFFF write-back
[    0.000031]   A0000-BFFFF uncachable
[    0.000032]   C0000-FFFFF write-through
[    0.000033] MTRR variable ranges enabled:
[    0.000034]   0 base 000000000000 mask FFFF80000000 write-back
[    0.000036]   1 base 0000FFE00000 mask FFFFFFE00000 write-protect
"""
WORDS = """
As we have the range at 0x100000000 write-protected reported that early in
boot I'd say it's BIOS.

The question is how to reliably detect that this is a bogus setting,
for which the firmware's authors would have to be asked.
Nobody has.

"""
TAIL = """\
[    0.000038]   2 base 0000FFDE0000 mask FFFFFFFE0000 write-protect
[    0.000040]   3 disabled
"""
TOM2 = "[    0.000042] TOM2: 0000000280000000 aka 10240M\n"


def listing(text: str) -> Mtrrs:
    (found,) = read(text).mtrrs
    return found


def test_words_in_between() -> None:
    found = listing(HEAD + WORDS + TAIL + TOM2)
    assert [each.number for each in found.variable] == [0, 1, 2]
    assert (found.unused, found.tom2, found.tom2_write_back) == ((3,), 0x280000000, True)
    assert found.complete


def test_words_do_not_join_two_machines() -> None:
    first, second = read(HEAD + WORDS + HEAD + TAIL).mtrrs
    assert ([each.number for each in first.variable], len(second.variable)) == ([0, 1], 3)
    alone = "[    0.000034]   0 base 000000000000 mask FFFF00000000 write-back\n"
    assert [len(each.variable) for each in read(HEAD + WORDS + alone).mtrrs] == [2, 1]


def test_the_rest_of_a_listing_far_below() -> None:
    first, second = read(HEAD + WORDS * 20 + TAIL).mtrrs
    assert (first.complete, second.complete) == (False, False)


def test_a_register_that_is_cut_among_the_words() -> None:
    assert not listing(
        HEAD + WORDS + "[    0.000037]   2 base 0000FF\n" + TAIL.replace("2 base", "3 base")
    ).complete


# arch/x86/pci/amd_bus.c prints TOP_MEM2 where bit 21 of SYSCFG is set; WB it is with bit 22 only.
BUSES = """\
[    0.340224] node 0 link 0: mmio [feb00000, ffefffff]
[    0.340224] TOM2: 0000000130000000 aka 4864M
[    0.340224] bus: [00,07] on node 0 link 0
"""


def test_tom2_of_the_buses_is_no_mtrr() -> None:
    dump = read(BUSES)
    assert (dump.mtrrs, dump.unread) == ((), ())
    assert listing(HEAD + BUSES).tom2 is None
    assert listing(HEAD + TAIL + TOM2 + BUSES).tom2 == 0x280000000
    assert read(TOM2).mtrrs == ()


def test_tom2_that_is_cut() -> None:
    found = listing(HEAD + TAIL + TOM2[:40])
    assert (found.tom2, found.complete) == (None, False)


def test_fixed_ranges_below_a_cut() -> None:
    found = listing(HEAD[HEAD.index("[    0.000032]") :])
    assert found.fixed == ((Span(0xC0000, 0xFFFFF), WT),)
    text = HEAD[HEAD.index("[    0.000032]") :] + TAIL
    assert any("fixed ranges are incomplete in the text" in each for each in layout_of(read(text)).notes)


XEN = """\
(XEN) mtrr: your CPUs had inconsistent fixed MTRR settings
(XEN) mtrr: corrected configuration.
(XEN) MTRR default type: write-back
(XEN) MTRR fixed ranges enabled:
(XEN)   00000-9ffff write-back
(XEN)   a0000-bffff uncachable
(XEN)   c0000-fffff write-protect
(XEN) MTRR variable ranges enabled:
(XEN)   0 base 0080000000 mask ff80000000 uncachable
(XEN)   1 disabled
"""


@pytest.mark.parametrize(
    "time", ["", "[    2.103844] ", "[2023-03-01 10:00:00] ", "[2023-03-01 10:00:00.123] "]
)
def test_xens_log(time: str) -> None:
    found = listing(XEN.replace("(XEN) ", f"(XEN) {time}"))
    assert (found.source, found.default, found.unused) == ("Xen", WB, (1,))
    assert [(each.base, each.mask, each.memtype) for each in found.variable] == [(2 << 30, 0xFF80000000, UC)]
    assert found.fixed == (
        (Span(0, 0x9FFFF), WB),
        (Span(0xA0000, 0xBFFFF), UC),
        (Span(0xC0000, 0xFFFFF), WP),
    )
    assert layout_of(read(XEN)).physical_bits == 40


# print_mtrr_state() of Xen 4.17 prints the register enabled, and " (WB)" with Tom2ForceMemTypeWB.
@pytest.mark.parametrize(("behind", "write_back"), [(" (WB)", True), ("", False)])
def test_xens_tom2(behind: str, write_back: bool) -> None:
    found = listing(f"{XEN}(XEN) TOM2: 000280000000{behind}\n")
    assert (found.tom2, found.tom2_write_back) == (0x280000000, write_back)


def test_headings_alone_are_not_whole() -> None:
    headings = "".join(line for line in HEAD.splitlines(keepends=True) if "MTRR" in line)
    assert not listing(headings).complete
