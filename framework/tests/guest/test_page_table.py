from __future__ import annotations

import pytest
from memtype_support.made_registers import NO_MTRRS

from pytest_memtype.guest.page_table import (
    Leaves,
    decode_leaves,
    effective_types,
    granted_types,
    physical_address,
    types_by_address,
    types_for_cpu,
)
from pytest_memtype.guest.region import Region
from pytest_memtype.guest.registers import Registers
from pytest_memtype.x86.effective import EffectiveType
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import MtrrState
from pytest_memtype.x86.pat import LINUX_PAT, RESET_PAT
from pytest_memtype.x86.pte import PROT_NONE, PageSize

PRESENT, WRITE, PWT, PCD, PAT_4K, PAT_2M, LARGE = 1, 2, 1 << 3, 1 << 4, 1 << 7, 1 << 12, 1 << 7


def with_mtrrs(*pairs: tuple[int, int]) -> Registers:
    """MTRRs on, default UC, no fixed ranges."""
    variable = (*pairs, *[(0, 0)] * (8 - len(pairs)))
    mtrr = MtrrState(capability=0x508, default_type_register=0x800, fixed=(0,) * 11, variable=variable)
    return Registers(**{**vars(NO_MTRRS), "mtrr": mtrr})


def test_runs_become_pages() -> None:
    content = {
        "truncated": False,
        "runs": [
            [PRESENT | PWT | 0xFD000000, 12, 2],
            [0, 12, 1],
            [PRESENT | PCD | PWT | PAT_4K | 0xFD003000, 12, 1],
            # Linux' PAT, slot 4 PAT=1 PCD=0 PWT=0: WB; the bit is 12 in a large page.
            [PRESENT | LARGE | PAT_2M | 0xFD200000, 21, 512],
        ],
    }
    assert decode_leaves(content, LINUX_PAT, pages=516) == (
        Leaves(PageSize.SIZE_4K, 2, MemType.WC),
        Leaves(PageSize.SIZE_4K, 1, None),
        Leaves(PageSize.SIZE_4K, 1, MemType.WT),
        Leaves(PageSize.SIZE_2M, 512, MemType.WB),
    )
    types = granted_types(content, NO_MTRRS, pages=516)
    assert types[:4] == (MemType.WC, MemType.WC, None, MemType.WT)
    assert types[4:] == (MemType.WB,) * 512


def test_the_same_bits_mean_something_else_under_another_pat() -> None:
    content = {"truncated": False, "runs": [[PRESENT | PWT, 12, 1]]}
    reset = Registers(**{**vars(NO_MTRRS), "pat_value": RESET_PAT})
    assert granted_types(content, NO_MTRRS, pages=1) == (MemType.WC,)
    assert granted_types(content, reset, pages=1) == (MemType.WT,)


def test_more_runs_than_the_agent_has_room_for() -> None:
    with pytest.raises(ValueError, match="more often"):
        granted_types({"truncated": True, "runs": []}, NO_MTRRS, pages=0)


@pytest.mark.parametrize("runs", [[], [[1, 12, 3]], [[1, 12, 1 << 40]], [[1, 12, -1], [1, 12, 3]]])
def test_other_pages_than_were_asked_about(runs: list[list[int]]) -> None:
    with pytest.raises(ValueError, match=r"not of 2|isn't a number of 64 bits"):
        granted_types({"truncated": False, "runs": runs}, NO_MTRRS, pages=2)


def test_mtrrs_are_asked_page_by_page() -> None:
    width = (1 << 40) - 1
    # One page of WC at 0xFD001000, the rest UC by default.
    registers = with_mtrrs((0xFD001000 | MemType.WC, (width & ~0xFFF) | 0x800))
    region = Region(0xFD000000, 3)
    types = (MemType.UC_MINUS, MemType.UC_MINUS, None)
    # AMD APM vol. 2, "Combined Effect of MTRRs and PAT": UC x UC- is UC, WC x UC- is WC.
    assert effective_types(region, types, registers) == (EffectiveType.UC, EffectiveType.WC, None)


def test_without_mtrrs_the_page_table_has_the_only_word() -> None:
    types = effective_types(Region(0, 2), (MemType.WB, MemType.WC), NO_MTRRS)
    assert types == (EffectiveType.WB, EffectiveType.WC)


@pytest.mark.parametrize(
    ("run", "virtual", "expected"),
    [
        ([PRESENT | PWT | PAT_4K | 1 << 63 | 0xFD003000, 12, 1], 0x1000_0000_5000, 0xFD003000),
        ([PRESENT | LARGE | PAT_2M | 0xFD200000, 21, 1], 0x1000_0020_3000, 0xFD203000),
        ([0, 12, 1], 0x1000_0000_5000, None),
    ],
    ids=["page", "large-page", "nothing"],
)
def test_what_is_behind_an_address(run: list[int], virtual: int, expected: int | None) -> None:
    content = {"truncated": False, "runs": [run]}
    assert physical_address(content, virtual=virtual) == expected


def test_a_page_with_prot_none_has_a_type_that_the_cpu_does_not_see() -> None:
    hidden = PROT_NONE | PWT | ~0xFD00_0000 & 0x000F_FFFF_FFFF_F000
    runs = [[hidden, 12, 2], [PRESENT | PWT | 0xFD002000, 12, 1]]
    content = {"truncated": False, "runs": runs}
    leaves = decode_leaves(content, LINUX_PAT, pages=3)
    assert leaves == (
        Leaves(PageSize.SIZE_4K, 2, MemType.WC, hidden=True),
        Leaves(PageSize.SIZE_4K, 1, MemType.WC),
    )
    assert types_for_cpu(leaves) == (None, None, MemType.WC)
    assert physical_address(content, virtual=0x1000) == 0xFD000000
    content["runs"] = runs[:1]
    assert types_by_address(content, Region(0xFD000000, 2), LINUX_PAT) == (None, None)
