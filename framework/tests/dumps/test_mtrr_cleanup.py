"""The listings of mtrr_cleanup: which are whole (arch/x86/kernel/cpu/mtrr/cleanup.c)."""

from __future__ import annotations

import pytest

from pytest_memtype.dumps.read import read

ORIGINAL = """\
[    0.000000] original variable MTRRs
[    0.000000] reg 0, base: 0GB, range: 8GB, type WB
[    0.000000] reg 2, base: 3584MB, range: 512MB, type UC
[    0.000000] total RAM covered: 7918M
"""
FOUND = """\
[    0.000000] Found optimal setting for mtrr clean up
[    0.000000]  gran_size: 64K \tchunk_size: 16M \tnum_reg: 3  \tlose cover RAM: 0G
"""
NEW = """\
[    0.000000] New variable MTRRs
[    0.000000] reg 0, base: 0GB, range: 2GB, type WB
[    0.000000] reg 1, base: 2GB, range: 1GB, type WB
[    0.000000] reg 2, base: 4GB, range: 4GB, type WB
"""


def whole(text: str) -> list[bool]:
    return [each.complete for each in read(text).mtrrs]


def test_whole_listings() -> None:
    assert whole(ORIGINAL + FOUND + NEW) == [True, True]
    # What isn't used is left out, and no setting says how many there were.
    assert whole(ORIGINAL) == [True]
    assert whole(NEW) == [True]


def test_fewer_than_linux_counted() -> None:
    short = NEW[: NEW.index("[    0.000000] reg 2")]
    assert whole(ORIGINAL + FOUND + short) == [True, False]
    fullest = read(ORIGINAL + FOUND + short).mtrr
    assert fullest is not None
    assert [each.number for each in fullest.variable] == [0, 2]


def test_new_registers_begin_at_zero() -> None:
    assert whole(NEW.replace("reg 1, base: 2GB, range: 1GB, type WB", "usb 1-1: new device")) == [False]
    assert whole(NEW.replace("reg 0, base: 0GB, range: 2GB, type WB", "usb 1-1: new device")) == [False]


def test_a_beginning_that_is_lost() -> None:
    assert whole(ORIGINAL[ORIGINAL.index("[    0.000000] reg 2") :]) == [False]
    assert whole("range: 512MB, type WB\n" + ORIGINAL[ORIGINAL.index("[    0.000000] reg 2") :]) == [False]
    assert whole(ORIGINAL[ORIGINAL.index("[    0.000000] reg 0") :]) == [True]


PROC = "reg00: base=0x000000000 (    0MB), size= 2048MB, count=1: write-back\n"
DEBUG = """\
[    0.000033] MTRR variable ranges enabled:
[    0.000034]   0 base 000000000000 mask FFFF80000000 write-back
"""


@pytest.mark.parametrize("text", [NEW, PROC, DEBUG])
@pytest.mark.parametrize("fragment", ["[    0.", "[", "[    0.000000", "<6", "Jan  9 11:0"])
def test_a_piece_of_a_prefix_at_the_end(text: str, fragment: str) -> None:
    assert whole(text) == [True]
    assert whole(text + fragment) == [False]
    assert whole(f"{text}[    1.000000] usb 1-1: new device\n{fragment}") == [True]
