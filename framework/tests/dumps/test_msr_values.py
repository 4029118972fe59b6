"""Values of MSRs that a text has, and numbers that can be none."""

from __future__ import annotations

from pytest_memtype.dumps.read import read
from pytest_memtype.x86.memtype import MemType

UC, WB = MemType.UC, MemType.WB


def test_numbers_of_registers_are_no_values() -> None:
    text = """\
    IA32_MTRR_PHYSBASE0 = 0x00000200,
    IA32_MTRR_PHYSMASK0 = 0x00000201,
    IA32_MTRR_PHYSBASE1 = 0x00000202,
    IA32_MTRR_PHYSMASK1 = 0x00000203,
    IA32_MTRR_DEF_TYPE = 0x000002FF,
"""
    assert read(text).mtrrs == ()


# Bits 8, 9 and 12 up of IA32_MTRR_DEF_TYPE are reserved, and 2, 3 and 7 are no types.
def test_a_default_type_that_is_none() -> None:
    registers = "IA32_MTRR_PHYSBASE0: 0x00000006\nIA32_MTRR_PHYSMASK0: 0x7F80000800\n"
    for value, default in (("c06", WB), ("c00", UC), ("1c06", None), ("d06", None), ("c02", None)):
        (found,) = read(f"{registers}IA32_MTRR_DEF_TYPE: 0x{value}\n").mtrrs
        assert found.default is default
        assert len(found.variable) == 1


def test_a_half_that_can_not_be_is_missing() -> None:
    (found,) = read("IA32_MTRR_DEF_TYPE: 0xc06\nIA32_MTRR_PHYSBASE0: 0x6\nIA32_MTRR_PHYSMASK0: 0x201\n").mtrrs
    assert not found.complete


def test_some_of_the_fixed_ranges() -> None:
    (found,) = read("rdmsr 0x2ff = c06\nrdmsr 0x250 = 0606060606060606\n").mtrrs
    assert [(span.start, span.end, memtype) for span, memtype in found.fixed] == [(0, 0x7FFFF, WB)]
