"""What guests/module/mtrr.c makes of a CPU's registers is what x86/mtrr.py makes of them.

Of SMRR and AMD's registers above all, which no guest's CPU has: QEMU 7.2 to 11.1.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cffi
import hypothesis.strategies as st
import pytest
from hypothesis import example, given
from memtype_support.verifier_library import make

from pytest_memtype.x86.amd import TOM2_ENABLE, TOM2_FORCE_WB, AmdMemory
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import UNDEFINED, MtrrState
from pytest_memtype.x86.mtrr_runs import runs
from pytest_memtype.x86.smrr import Smrr

DECLARATIONS = """
struct memtype_registers {
    uint32_t cpu, physical_bits, has_mtrr, has_pat;
    uint64_t pat, mtrr_capability, mtrr_default_type, mtrr_fixed[11], mtrr_variable[32][2];
    uint32_t has_smrr, has_amd;
    uint64_t smrr[2], amd_syscfg, amd_top_mem, amd_top_mem2, cr0, cr3, cr4;
    char vendor[16];
};
struct mtrr_summary { uint32_t types; bool undefined; bool splits_large_page; };
struct mtrr_summary mtrr_summarise(const struct memtype_registers *registers, uint64_t first, uint64_t last);
"""

PHYSICAL_BITS = 40
MIB, GIB = 1 << 20, 1 << 30
FIXED = (0x0606060606060606, 0x0606060606060606, 0, *(0x0505050505050505,) * 8)
# The same with RdMem and WrMem set, which are no part of the type while MtrrFixDramModEn says so.
FIXED_WITH_DRAM = tuple(each | 0x1818181818181818 for each in FIXED)
FIX_DRAM_MODIFY = 1 << 19
TYPES = [MemType[name] for name in ("UC", "WC", "WT", "WP", "WB")]

ranges = st.tuples(
    st.integers(0, 40).map(lambda n: n * 256 * MIB),
    st.sampled_from([256 * MIB, 512 * MIB, GIB, 4 * GIB]),
    st.sampled_from(TYPES),
).map(lambda each: (each[0] | each[2], (1 << PHYSICAL_BITS) - each[1] | 0x800))
smrrs = st.none() | st.tuples(
    st.integers(0, 511).map(lambda n: n * 8 * MIB),
    st.sampled_from([8 * MIB, 64 * MIB]),
    st.sampled_from(TYPES),
).map(lambda each: Smrr(each[0] // each[1] * each[1] | each[2], (1 << 32) - each[1] | 0x800))
amds = st.none() | st.builds(
    lambda flags, top, modify: AmdMemory(flags | modify, 0, top),
    st.sampled_from([0, TOM2_ENABLE, TOM2_FORCE_WB, TOM2_ENABLE | TOM2_FORCE_WB]),
    st.sampled_from([0, 2 * GIB, 4 * GIB, 4 * GIB + 8 * MIB, 9200 * MIB]),
    st.sampled_from([0, FIX_DRAM_MODIFY]),
)


@pytest.fixture(scope="module")
def summarise(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("mtrr")
    make("mtrr.so", folder)
    ffi: Any = cffi.FFI()
    ffi.cdef(DECLARATIONS)
    library = ffi.dlopen(str(folder / "mtrr.so"))

    def summary(state: MtrrState, start: int, end: int) -> tuple[set[MemType], bool]:
        registers = ffi.new("struct memtype_registers *")
        registers.physical_bits = PHYSICAL_BITS
        registers.has_mtrr = True
        registers.mtrr_capability = state.capability
        registers.mtrr_default_type = state.default_type_register
        registers.mtrr_fixed = list(state.fixed)
        for number, pair in enumerate(state.variable):
            registers.mtrr_variable[number] = list(pair)
        if state.smrr is not None:
            registers.smrr = [state.smrr.physbase, state.smrr.physmask]
        if state.amd is not None:
            registers.amd_syscfg = state.amd.syscfg
            registers.amd_top_mem2 = state.amd.top_mem2
        found = library.mtrr_summarise(registers, start, end - 1)
        return {memtype for memtype in MemType if found.types >> memtype & 1}, bool(found.undefined)

    return summary


@given(
    default=st.sampled_from(TYPES),
    flags=st.sampled_from([0xC00, 0xC00, 0x800, 0]),
    variable=st.lists(ranges, max_size=4),
    smrr=smrrs,
    amd=amds,
    # In the first mebibyte the fixed ranges count, and nearly nowhere else.
    start=st.integers(0, 255).map(lambda n: n * 4096)
    | st.integers(0, 10 * GIB // (4 * MIB)).map(lambda n: n * 4 * MIB),
    size=st.sampled_from([4096, 4 * MIB, 64 * MIB, 2 * GIB, 8 * GIB]),
)
# RAM above 4 GiB that only TOP_MEM2 makes write-back, and what lies behind it.
@example(
    default=MemType.UC,
    flags=0xC00,
    variable=[],
    smrr=None,
    amd=AmdMemory(TOM2_ENABLE | TOM2_FORCE_WB, 0, 9200 * MIB),
    start=9200 * MIB - 4096,
    size=4096,
)
# RdMem and WrMem are set in each fixed range, and are no part of its type.
@example(
    default=MemType.UC,
    flags=0xC00,
    variable=[],
    smrr=None,
    amd=AmdMemory(FIX_DRAM_MODIFY, 0, 0),
    start=0,
    size=4096,
)
# In SMRR's memory nothing else counts, not even that MTRRs are off.
@example(
    default=MemType.WB,
    flags=0,
    variable=[],
    smrr=Smrr(0x7F000006, 0xFF000800),
    amd=None,
    start=0x7F000000,
    size=64 * MIB,
)
def test_the_module_says_what_the_model_says(
    summarise: Any,
    *,
    default: MemType,
    flags: int,
    variable: list[tuple[int, int]],
    smrr: Smrr | None,
    amd: AmdMemory | None,
    start: int,
    size: int,
) -> None:
    fixed = FIXED_WITH_DRAM if amd is not None and amd.fixed_dram_modify else FIXED
    pairs = (*variable, *[(0, 0)] * 8)[:8]
    state = MtrrState(0x508, flags | default, fixed, pairs, smrr=smrr, amd=amd)
    types = [each.memtype for each in runs(state, start, start + size)]
    expected = {each for each in types if each is not UNDEFINED}, UNDEFINED in types
    assert summarise(state, start, start + size) == expected
