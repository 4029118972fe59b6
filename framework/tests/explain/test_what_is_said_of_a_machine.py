"""What import says of the machine: the width of its addresses, and which of several listings was taken."""

from __future__ import annotations

import pytest

from pytest_memtype import Hardware
from pytest_memtype.dumps.read import read
from pytest_memtype.explain.imported_layout import fitted, layout_of

MINE = """\
reg00: base=0x000000000 (    0MB), size=131072MB, count=1: write-back
reg01: base=0x07c000000 ( 1984MB), size=   64MB, count=1: uncachable
"""
THEIRS = "reg00: base=0x080000000 ( 2048MB), size= 2048MB, count=1: uncachable\n"
DEBUG = """\
[    0.000000] MTRR default type: uncachable
[    0.000000] MTRR variable ranges enabled:
[    0.000000]   0 base 0000000000 mask 7000000000 write-back
[    0.000000]   1 disabled
"""


def of_width(text: str) -> list[str]:
    notes = fitted(layout_of(read(text)), Hardware(memory="256M")).notes
    return [each for each in notes if "addresses have" in each and "is left out" not in each]


def test_a_width_that_the_text_does_not_say() -> None:
    said = ["the machine's addresses have at least 37 bits; the text doesn't say how many"]
    assert of_width(MINE) == said
    assert [each for each in layout_of(read(MINE)).notes if "bits" in each] == said
    # A CPU without CPUID 80000008H has 36 (Intel SDM vol. 3), an Atom N270 32.
    assert of_width(THEIRS) == [
        "the machine's addresses have at least 32 bits; the text doesn't say how many: 36 are taken"
    ]
    holes = "reg02: base=0x00c000000 (  192MB), size=61456MB, count=1: write-through\n"
    assert of_width(holes) == [
        "the machine's addresses have at least 32 bits; the text doesn't say how many: 40 are taken"
    ]


def test_a_width_that_the_text_says() -> None:
    assert of_width(DEBUG) == ["the machine's addresses have 39 bits, a guest's 40"]
    cpu = "Address sizes:                      39 bits physical, 48 bits virtual\n"
    assert of_width(cpu + MINE) == ["the machine's addresses have 39 bits, a guest's 40"]


def of_listings(text: str) -> list[str]:
    return [each for each in layout_of(read(text)).notes if "differ" in each]


def test_several_machines() -> None:
    said = "the text has 2 listings of MTRRs that differ: those of lines {} are taken"
    assert of_listings(f"{MINE}\nand yours?\n\n{THEIRS}") == [said.format("1 to 2")]
    assert of_listings(f"{THEIRS}\nand mine?\n\n{MINE}") == [said.format("5 to 6")]


@pytest.mark.parametrize(
    "text",
    [
        MINE,
        # Quoted once more.
        MINE + "".join(f"> {each}\n" for each in MINE.splitlines()),
        # One CPU's registers in two forms, and a part of them.
        DEBUG + "reg00: base=0x000000000 (    0MB), size=65536MB, count=1: write-back\n",
        MINE + "original variable MTRRs\nreg 0, base: 0GB, range: 128GB, type WB\n",
        # What mtrr_cleanup made of them, below.
        DEBUG + "New variable MTRRs\nreg 0, base: 0GB, range: 32GB, type WB\n",
    ],
)
def test_one_machine(text: str) -> None:
    assert of_listings(text) == []


def test_a_register_that_was_freed() -> None:
    wc = "reg02: base=0x0d0000000 ( 3328MB), size=  256MB, count=1: write-combining\n"
    assert len(of_listings(MINE + wc + "\nand without X:\n\n" + MINE)) == 1


def test_the_firmware_s_where_the_new_ones_are_cut() -> None:
    text = """\
original variable MTRRs
reg 0, base: 0GB, range: 8GB, type WB
reg 1, base: 3584MB, range: 512MB, type UC
New variable MTRRs
reg 0, base: 0GB, range: 2GB, type WB
reg 1, base: 2GB, ran
"""
    assert of_listings(text) == [
        "the text has 2 listings of MTRRs that differ: those of lines 1 to 3 are taken, from before "
        "mtrr_cleanup changed them"
    ]
