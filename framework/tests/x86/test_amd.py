import pytest

from pytest_memtype.x86.amd import AmdMemory
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import MtrrState, decode, memory_type_at

UC, WC, WP, WB = MemType.UC, MemType.WC, MemType.WP, MemType.WB
ALL_WB = (0x0606060606060606,) * 11

# Read on a machine with Zen 2 ("Rome"): xen-devel, "x86/svm: handle SYSCFG and TOP_MEM": bits 18, 20, 21, 22.
ROME = AmdMemory(syscfg=0x740000, top_mem=0xB0000000, top_mem2=0x3C50000000)


def mtrrs(amd: AmdMemory, default: int = 0xC00, *pairs: tuple[int, int]) -> MtrrState:
    return MtrrState(0x508, default, ALL_WB, (*pairs, *[(0, 0)] * 8)[:8], amd=amd)


# AMD's description of SYSCFG[22], Tom2ForceMemTypeWB: "forces the default memory type for memory between 4GB
# and the address specified by TOP_MEM2 to be write back"; needs MtrrDefTypeEn; MTRRs and PAT override it.
def test_write_back_above_4_gib() -> None:
    state = mtrrs(ROME)
    expected = {0xFFFFFFFF: UC, 1 << 32: WB, 0x3C4FFFFFFF: WB, 0x3C50000000: UC, (1 << 48) - 1: UC}
    assert {address: memory_type_at(state, address) for address in expected} == expected


@pytest.mark.parametrize("missing", [1 << 21, 1 << 22])
def test_needs_both_bits(missing: int) -> None:
    # Linux 6.1, amd_special_default_mtrr(): Tom2Enabled | Tom2ForceMemTypeWB.
    amd = AmdMemory(ROME.syscfg & ~missing, ROME.top_mem, ROME.top_mem2)
    assert memory_type_at(mtrrs(amd), 1 << 32) is UC


def test_needs_mtrrs_enabled() -> None:
    assert memory_type_at(mtrrs(ROME, 0x406), 1 << 32) is UC


def test_mtrrs_override_it() -> None:
    state = mtrrs(ROME, 0xC00, (1 << 32 | WC, (1 << 48) - (1 << 30) | 0x800))
    assert memory_type_at(state, 1 << 32) is WC
    assert memory_type_at(state, 5 << 30) is WB


def test_granules_of_8_mib() -> None:
    amd = AmdMemory(ROME.syscfg, ROME.top_mem, (5 << 30) + 0x7FFFFF)
    assert memory_type_at(mtrrs(amd), (5 << 30) - 1) is WB
    assert memory_type_at(mtrrs(amd), 5 << 30) is UC


# AMD APM vol. 2, "Extended Fixed-Range MTRR Type-Field Encodings": RdMem is bit 4, WrMem bit 3 of each byte.
def test_dram_bits_of_fixed_ranges() -> None:
    fixed = (0x1E1E1E1E1E1E1E1E, *ALL_WB[1:10], 0x1515151515151515)
    shown = AmdMemory(1 << 18 | 1 << 19, 0, 0)
    state = MtrrState(0x508, 0xC00, fixed, ((0, 0),) * 8, amd=shown)
    assert memory_type_at(state, 0) is WB
    assert memory_type_at(state, 0xFFFFF) is WP
    with pytest.raises(ValueError, match="MTRR 0x250 byte 0 holds the reserved memory type 0x1e"):
        decode(MtrrState(0x508, 0xC00, fixed, ((0, 0),) * 8, amd=ROME))
