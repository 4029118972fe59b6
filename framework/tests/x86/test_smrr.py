import pytest

from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import MtrrState, memory_type_at
from pytest_memtype.x86.smrr import Smrr

UC, WT, WB = MemType.UC, MemType.WT, MemType.WB
ALL_WT = (0x0404040404040404,) * 11


def mtrrs(smrr: Smrr, default: int = 0xC04) -> MtrrState:
    return MtrrState(0xD08, default, ALL_WT, ((0x7F000000 | WT, 0xFFFF000800), *[(0, 0)] * 7), smrr=smrr)


# Intel SDM vol. 3, "System-Management Range Register Interface": in SMM the type of SMRR, outside UC, "even
# if the address range specified overlaps with a range specified by the MTRRs".
@pytest.mark.parametrize("default", [0xC04, 0x804, 0x004])
def test_wins_over_the_mtrrs(default: int) -> None:
    state = mtrrs(Smrr(0x7F000006, 0xFF800800), default)
    rest = WT if default & 0x800 else UC
    for address in (0x7F000000, 0x7F7FFFFF):
        assert memory_type_at(state, address) is UC
        assert memory_type_at(state, address, in_smm=True) is WB
    for address in (0x7EFFFFFF, 0x7F800000):
        assert memory_type_at(state, address) is rest
        assert memory_type_at(state, address, in_smm=True) is rest


def test_wins_over_fixed_ranges() -> None:
    state = mtrrs(Smrr(0x000A0006, 0xFFFE0800))
    assert memory_type_at(state, 0xA0000) is UC
    assert memory_type_at(state, 0xBFFFF, in_smm=True) is WB
    assert memory_type_at(state, 0xC0000) is WT


def test_needs_its_valid_bit() -> None:
    state = mtrrs(Smrr(0x7F000006, 0xFF800000))
    assert memory_type_at(state, 0x7F000000) is memory_type_at(state, 0x7F000000, in_smm=True) is WT


def test_lies_below_4_gib() -> None:
    state = mtrrs(Smrr(0x7F000006, 0xFF800800))
    assert memory_type_at(state, 0x1_7F000000, in_smm=True) is WT


@pytest.mark.parametrize("encoding", [2, 3, 7, 8, 0xFF])
def test_reserved_type(encoding: int) -> None:
    with pytest.raises(ValueError, match=f"SMRR 0x1f2 holds the reserved memory type {encoding:#04x}"):
        Smrr(0x7F000000 | encoding, 0xFF800800)
