"""Three ways to read registers, and which of them stands alone."""

from __future__ import annotations

from dataclasses import replace

from memtype_support.made_registers import NO_MTRRS

from pytest_memtype.guest.proc_mtrr import ProcMtrr
from pytest_memtype.guest.register_views import INSIDE, LISTED, OUTSIDE, disagreements
from pytest_memtype.machine.device_state import CpuRegisters
from pytest_memtype.x86.memtype import MemType

# 16 MiB write-combining at 0xfd000000 with 40 address bits (Intel SDM vol. 3, "Variable Range MTRRs").
PAIRS = ((0xFD000001, 0xFFFF000800), *((0, 0),) * 7)
OUT = CpuRegisters(
    cpu=0,
    cr0=1,
    cr3=0x1000,
    cr4=0,
    efer=0,
    pat_value=0x0007040600070406,
    mtrr_default_type=0xC06,
    mtrr_fixed=(0,) * 11,
    mtrr_variable=PAIRS,
)
IN = replace(NO_MTRRS, mtrr=OUT.mtrr, pat_value=OUT.pat_value, cr0=1, cr3=0x1000)
LIST = (ProcMtrr(index=0, base=0xFD000000, size=16 << 20, memtype=MemType.WC, count=1),)


def test_all_agree() -> None:
    assert disagreements(inside=[IN], listed=LIST, outside=[OUT]) == ()


def test_another_process_has_run_meanwhile() -> None:
    assert disagreements(inside=[IN], listed=LIST, outside=[replace(OUT, cr3=0x2A06000)]) == ()


def test_the_kernels_list_stands_alone() -> None:
    (found,) = disagreements(inside=[IN], listed=(), outside=[OUT])
    assert (found.register, found.odd) == ("range 0", LISTED)
    assert str(found) == (
        f"CPU 0: range 0 is 16M WC at 0xfd000000 {INSIDE}, unused {LISTED}, 16M WC at 0xfd000000 {OUTSIDE}; "
        f"{LISTED} stands alone"
    )


def test_of_two_ways_none_stands_alone() -> None:
    other = replace(OUT, mtrr_variable=((0, 0), *PAIRS[1:]), pat_value=6)
    found = disagreements(inside=[IN], listed=LIST, outside=[other])
    assert [(each.register, each.odd) for each in found] == [
        ("PAT", None),
        ("base 0", None),
        ("mask 0", None),
    ]


def test_the_list_may_be_of_any_cpu() -> None:
    empty = replace(OUT, cpu=1, mtrr_variable=((0, 0),) * 8)
    second = replace(IN, cpu=1, mtrr=empty.mtrr)
    assert disagreements(inside=[IN, second], listed=LIST, outside=[OUT, empty]) == ()
    assert disagreements(inside=[IN, second], listed=(), outside=[OUT, empty]) == ()
