"""Which lines of /proc/mtrr are of one listing, and listings whose numbers are wrong."""

from __future__ import annotations

import pytest

from pytest_memtype.dumps.read import read
from pytest_memtype.errors import UsageError
from pytest_memtype.explain.imported_layout import layout_of
from pytest_memtype.x86.memtype import MemType

WHOLE = """\
reg00: base=0x00000000 (   0MB), size=2048MB: write-back, count=1
reg01: base=0x80000000 (2048MB), size=1024MB: write-back, count=1
reg02: base=0xf7000000 (3952MB), size=  16MB: uncachable, count=1
"""
# Linux 2.5.59 on a Pentium III: all megabytes are 16 times too large.
SCALED = """\
reg00: base=0xc0000000 (49152MB), size=16384MB: uncachable, count=1
reg01: base=0x00000000 (   0MB), size=524288MB: write-back, count=1
reg02: base=0x800000000 (524288MB), size=262144MB: write-back, count=1
"""


def test_sizes_that_are_scaled_as_the_bases_are() -> None:
    dump = read(SCALED)
    assert dump.mtrrs == ()
    assert [each.number for each in dump.cut] == [1, 3]
    with pytest.raises(UsageError, match=r"no MTRRs in this text but lines that are cut or wrong \(line 1\)"):
        layout_of(dump)


def test_a_digit_that_is_lost_is_no_scale() -> None:
    (listing,) = read(WHOLE.replace("0x80000000", "0x8000000")).mtrrs
    assert ([each.number for each in listing.variable], listing.complete) == ([0, 2], False)
    # Two of them, beside one that is right.
    text = (
        WHOLE.replace("0x80000000", "0x8000000") + "reg03: base=0x4000000 (1024MB), size=16MB: write-back\n"
    )
    (listing,) = read(text).mtrrs
    assert not listing.complete


@pytest.mark.parametrize("text", [f"{WHOLE}\nBetter than mine:\n\n{SCALED}", f"{SCALED}\nYours:\n\n{WHOLE}"])
def test_lines_of_another_listing_do_not_cut_one(text: str) -> None:
    (listing,) = read(text).mtrrs
    assert ([each.number for each in listing.variable], listing.complete) == ([0, 1, 2], True)


@pytest.mark.parametrize("lost", ["reg01: base=0x8000", "reg03: base=0x1000"])
def test_a_line_that_is_cut_is_of_the_listing_that_it_fits(lost: str) -> None:
    lines = [each for each in WHOLE.splitlines() if not each.startswith(lost[:5])]
    (listing,) = read("\n".join(sorted([*lines, lost]))).mtrrs
    assert not listing.complete
    # The next listing begins there, and has nothing else.
    (listing,) = read(f"{WHOLE}reg00: base=0x00000000 (   0MB").mtrrs
    assert listing.complete


# coreboot's list, on VAR_MTRR_HOLE.
ONE_LINE = (
    "cat /proc/mtrr reg00: base=0x00000000 ( 0MB), size=4096MB: write-back, count=1 reg01: base=0xc0000000 "
    "(3072MB), size=1024MB: uncachable, count=1 dmesg mtrr: type mismatch for e0000000,1000000 old: "
    "write-back new: write-combining\n"
)


def test_a_listing_on_one_line() -> None:
    (listing,) = read(ONE_LINE).mtrrs
    assert [(each.number, each.base, each.memtype) for each in listing.variable] == [
        (0, 0, MemType.WB),
        (1, 0xC0000000, MemType.UC),
    ]
    assert listing.complete
    assert len(layout_of(read(ONE_LINE)).layout.ranges) == 2


def test_a_register_of_one_line_that_is_cut() -> None:
    dump = read(ONE_LINE.replace("size=1024MB", "size="))
    (listing,) = dump.mtrrs
    assert ([each.number for each in listing.variable], listing.complete) == ([0], False)
    assert [each.number for each in dump.cut] == [1]


def test_a_line_whose_end_is_not_read() -> None:
    registers = [
        f"reg{n:02}: base=0x{n << 20:09x} ({n:5}MB), size=    1MB: uncachable, count=1" for n in range(64)
    ]
    (listing,) = read(" ".join(registers)).mtrrs
    assert len(listing.variable) < 64
    assert not listing.complete


def test_two_listings_on_one_line() -> None:
    found = read(" ".join((WHOLE + WHOLE).split("\n"))).mtrrs
    assert [[each.number for each in listing.variable] for listing in found] == [[0, 1, 2], [0, 1, 2]]
