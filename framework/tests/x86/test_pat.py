import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_memtype.x86 import pat
from pytest_memtype.x86.memtype import MemType

UC, WC, WT, WP, WB, UC_MINUS = (MemType[name] for name in ("UC", "WC", "WT", "WP", "WB", "UC_MINUS"))


def test_reset_value() -> None:
    # Intel SDM vol. 3, "IA32_PAT MSR": memory type setting of PAT entries following a power-up or reset.
    assert pat.decode(pat.RESET_PAT) == (WB, WT, UC_MINUS, UC, WB, WT, UC_MINUS, UC)
    assert pat.possible_types(pat.RESET_PAT) == {WB, WT, UC_MINUS, UC}


def test_linux_value() -> None:
    # Comment in pat_bp_init() (arch/x86/mm/pat/memtype.c, Linux 6.1), "full PAT".
    assert pat.decode(pat.LINUX_PAT) == (WB, WC, UC_MINUS, UC, WB, WP, UC_MINUS, WT)
    assert pat.possible_types(pat.LINUX_PAT) == set(MemType)


@given(st.lists(st.sampled_from(MemType), min_size=8, max_size=8))
def test_round_trip(types: list[MemType]) -> None:
    value = pat.encode(types)
    assert pat.decode(value) == tuple(types)
    for slot, memtype in enumerate(types):
        assert value >> (8 * slot) & 0xFF == memtype.value


@pytest.mark.parametrize("slot", range(8))
def test_reserved_encoding_names_its_slot(slot: int) -> None:
    for encoding in (2, 3, *range(8, 256)):
        value = pat.LINUX_PAT & ~(0xFF << 8 * slot) | encoding << 8 * slot
        with pytest.raises(ValueError, match=f"slot {slot} holds the reserved encoding {encoding:#04x}"):
            pat.decode(value)


@pytest.mark.parametrize("value", [-1, 1 << 64])
def test_only_64_bits(value: int) -> None:
    with pytest.raises(ValueError, match="isn't a 64-bit register value"):
        pat.decode(value)


@pytest.mark.parametrize("count", [0, 7, 9])
def test_only_eight_slots(count: int) -> None:
    with pytest.raises(ValueError, match=f"8 slots, not {count}"):
        pat.encode([WB] * count)
