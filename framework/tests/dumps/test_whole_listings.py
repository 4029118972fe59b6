"""Listings of MTRRs that people have quoted in part."""

from __future__ import annotations

import pytest

from pytest_memtype.dumps.read import read
from pytest_memtype.explain.explanation import as_json, explain
from pytest_memtype.x86.memtype import MemType

_DEBUG = """\
[    0.000000] MTRR variable ranges enabled:
[    0.000000]   0 base 000000000000 mask FFFF80000000 write-back
[    0.000000]   1 disabled
[    0.000000]   2 base 0000FFF00000 mask FFFFFFFC0000 uncachable
"""
_PROC = """\
reg00: base=0x000000000 (    0MB), size= 4096MB, count=1: write-back
reg02: base=0x0e0000000 ( 3584MB), size=  512MB, count=1: uncachable
"""
_FULL = "mtrr: no more MTRRs available\n"
_MISMATCH = "mtrr: type mismatch for {},10000000 old: write-back new: write-combining\n"


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        (_DEBUG, True),
        # print_mtrr_state() has a line of each register, be it "disabled".
        ("\n".join(_DEBUG.splitlines()[2:]), False),
        (_DEBUG.replace("[    0.000000]   1 disabled\n", ""), False),
        # mtrr_seq_show() has none of those that hold nothing ...
        (_PROC, True),
        (_PROC.splitlines()[1], False),
        # ... and there are none of these where one was asked for in vain.
        (_PROC + _FULL, False),
        (_PROC.replace("reg02", "reg01") + _FULL, True),
        # mtrr_add_page() names the type of a register that the range lies in.
        (_PROC + _MISMATCH.format("d0000000"), True),
        (_PROC.replace("write-back", "uncachable") + _MISMATCH.format("d0000000"), False),
        (_PROC + _MISMATCH.format("100000000"), False),
    ],
)
def test_is_it_all_of_it(text: str, complete: bool) -> None:
    listing = read(text).mtrr
    assert listing is not None
    assert listing.complete == complete


def test_a_part_has_no_default_type() -> None:
    """Which types the missing registers have, and so which one the rest may have, isn't known."""
    part = as_json(explain(read(_PROC.splitlines()[1] + "\n" + _FULL), []))["layout"]
    assert part["default"] == "none"
    assert any("registers may be missing" in each for each in part["notes"])
    assert as_json(explain(read(_PROC), []))["layout"]["default"] == "UC"


_COREBOOT = "MTRR: 0 base 0x0000000000000000 mask 0x0000000f00000000 type 6"
_U_BOOT = "Reg Valid Write-type   Base   ||        Mask   ||        Size   ||\n"
_CELL = "   Y     {} 00000000{}0000000 0000000f00000000 0000000100000000"


@pytest.mark.parametrize(
    "text",
    [
        "MTRR variable ranges enabled:\n  0 base 000000000 mask F00000000 write-back  1 base 0C0000000 mask "
        "FC0000000 uncachable\n",
        f"{_COREBOOT} MTRR: 1 base 0x00000000c0000000 mask 0x0000000fc0000000 type 0",
        f"{_U_BOOT}0{_CELL.format('Back', 0)} 1{_CELL.format('Uncacheable', 'c')}",
        "original variable MTRRs\nreg 0, base: 0GB, range: 4GB, type WB reg 1, base: 3GB, range: 1GB, "
        "type UC",
        "MTRR overview\nReg 0: 0x0000000000000000 - 0x00000000ffffffff ( 4096 MB)   Write-Back Reg 1: "
        "0x00000000c0000000 - 0x00000000ffffffff ( 1024 MB)   Uncached",
    ],
)
def test_several_registers_on_one_line(text: str) -> None:
    found = [each for each in read(text).mtrrs if each.variable]
    assert [each.complete for each in found] == [False]


def test_a_list_of_reservations_on_one_line() -> None:
    text = "uncached-minus @ 0xe3f00000-0xe3f10000 write-combining @ 0x2000000000-0x2100000000\n"
    assert [each.memtype for each in read(text).entries] == [MemType.UC_MINUS, MemType.WC]
