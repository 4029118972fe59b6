import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_memtype.x86.amd import AmdMemory
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import MtrrState, memory_type_at
from pytest_memtype.x86.mtrr_runs import Run, runs, spans_types, types_within
from pytest_memtype.x86.pte import PageSize
from pytest_memtype.x86.smrr import Smrr

UC, WC, WT, WP, WB = (MemType[name] for name in ("UC", "WC", "WT", "WP", "WB"))
FIXED = (0x0606060606060606, 0x0606060606060606, 0, *(0x0505050505050505,) * 8)
MIB = 1 << 20


def state(*pairs: tuple[int, int], smrr: Smrr | None = None, amd: AmdMemory | None = None) -> MtrrState:
    return MtrrState(0x508, 0xC06, FIXED, (*pairs, *[(0, 0)] * 8)[:8], smrr=smrr, amd=amd)


def test_what_seabios_sets() -> None:
    # SeaBIOS 1.16, src/fw/mtrr.c, on q35.
    assert list(runs(state((0xC0000000, 0xFFC0000800)), 0, 1 << 40)) == [
        Run(0, 0xA0000, WB),
        Run(0xA0000, 0xC0000, UC),
        Run(0xC0000, MIB, WP),
        Run(MIB, 0xC0000000, WB),
        Run(0xC0000000, 1 << 32, UC),
        Run(1 << 32, 1 << 40, WB),
    ]


def test_mask_with_holes_comes_again() -> None:
    # 16 MiB at 0xFC000000 and, because address bits 25:24 don't matter, in the next three places.
    found = list(runs(state((0x0C000000 | WC, 0xFF0F000800)), 1 << 24, 1 << 32))
    assert [each for each in found if each.memtype is WC] == [
        Run(base, base + (16 * MIB), WC) for base in range(0x0C000000, 1 << 32, 1 << 28)
    ]


def test_registers_that_are_no_mtrrs_end_runs_too() -> None:
    smrr = Smrr(0x7F000006, 0xFF000800)
    assert Run(0x7F000000, 0x80000000, UC) in list(runs(state(smrr=smrr), 0, 1 << 33))
    # 4 GiB to TOP_MEM2 is WB whatever the default; here WB as well, so nothing changes.
    amd = AmdMemory(0x740000, 0x80000000, 5 << 30)
    uc_default = MtrrState(0x508, 0xC00, FIXED, ((0, 0),) * 8, amd=amd)
    assert list(runs(uc_default, 1 << 31, 1 << 34)) == [
        Run(1 << 31, 1 << 32, UC),
        Run(1 << 32, 5 << 30, WB),
        Run(5 << 30, 1 << 34, UC),
    ]


BITS = st.integers(0, 255).map(lambda bits: bits << 14)


@given(st.lists(st.tuples(BITS, BITS, st.sampled_from([UC, WC, WT, WP, WB])), max_size=4))
def test_runs_are_the_answers_page_by_page(ranges: list[tuple[int, int, MemType]]) -> None:
    mtrrs = state(*[(base | memtype, 0xFFFFC00800 | mask) for base, mask, memtype in ranges])
    pages = range(0, 4 * MIB, 4096)
    expected = [
        (kind, len(list(group))) for kind, group in itertools.groupby(memory_type_at(mtrrs, p) for p in pages)
    ]
    found = list(runs(mtrrs, 0, 4 * MIB))
    assert [(each.memtype, (each.end - each.start) // 4096) for each in found] == expected
    assert spans_types(mtrrs, 2 * MIB, PageSize.SIZE_2M) is (
        len({memory_type_at(mtrrs, page) for page in pages if page >= 2 * MIB}) > 1
    )


def test_large_pages() -> None:
    mtrrs = state((0xC0000000, 0xFFC0000800), (0xD0200000 | WC, 0xFFFFE00800))
    assert spans_types(mtrrs, 0, PageSize.SIZE_2M)
    assert not spans_types(mtrrs, 0, PageSize.SIZE_4K)
    assert not spans_types(mtrrs, 0xC0000000, PageSize.SIZE_1G)  # UC wins
    assert spans_types(state((0xD0200000 | WC, 0xFFFFE00800)), 0xC0000000, PageSize.SIZE_1G)
    assert not spans_types(state((0xD0200000 | WC, 0xFFFFE00800)), 0xD0200000, PageSize.SIZE_2M)
    with pytest.raises(ValueError, match="0x1000 isn't the address of a 2M page"):
        spans_types(mtrrs, 0x1000, PageSize.SIZE_2M)


def test_whole_pages_only() -> None:
    with pytest.raises(ValueError, match="aren't whole pages"):
        list(runs(state(), 0, 100))


@given(
    st.lists(st.tuples(BITS, BITS, st.sampled_from([UC, WC, WT, WP, WB])), max_size=4),
    st.integers(14, 22),
    st.integers(0, 255),
)
def test_types_within_a_block_are_those_of_its_pages(
    ranges: list[tuple[int, int, MemType]], shift: int, where: int
) -> None:
    registers = state(*((base | memtype, mask | 1 << 11) for base, mask, memtype in ranges))
    size, start = 1 << shift, (where << 14) & -(1 << shift)
    pages = {memory_type_at(registers, address) for address in range(start, start + size, 1 << 12)}
    assert types_within(registers, start, size) == pages


def test_holes_at_every_other_bit_cost_no_more_than_others() -> None:
    """Page by page, 2**28 pages of 1 TiB would be asked for. Masks have every other bit."""
    holes = 0x5555555000 & ~0xFFF
    registers = state((0x0 | WT, holes | 1 << 11), (0x1000 | WT, holes | 1 << 11))
    assert types_within(registers, 1 << 39, 1 << 39) == {WB, WT}
    same = state((0x0 | WB, holes | 1 << 11), (0x1000 | WB, holes | 1 << 11))
    assert not spans_types(same, 1 << 39, PageSize.SIZE_1G)
    assert list(runs(same, 1 << 39, 1 << 40)) == [Run(1 << 39, 1 << 40, WB)]
