"""Where the MTRRs of two CPUs say different things, against every page asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_memtype.x86.difference import Undecided, first_difference
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import MtrrState, memory_type_at

UC, WC, WT, WP, WB = (MemType[name] for name in ("UC", "WC", "WT", "WP", "WB"))
ROMS = (0x0606060606060606, 0x0606060606060606, 0, *(0x0505050505050505,) * 8)
ON, FIXED, VALID = 1 << 11, 1 << 10, 1 << 11
PHYSICAL_BITS = 32


def state(
    *pairs: tuple[int, int], default: int = ON | FIXED | WB, fixed: tuple[int, ...] = ROMS
) -> MtrrState:
    return MtrrState(0x508, default, fixed, (*pairs, *[(0, 0)] * 8)[:8])


def covers(base: int, size: int, memtype: MemType) -> tuple[int, int]:
    return base | memtype, ((1 << PHYSICAL_BITS) - size) | VALID


@pytest.mark.parametrize(
    ("one", "other", "address"),
    [
        # Pairs that aren't valid say nothing, whatever is in them.
        (state((0xC0000000, 0)), state(), None),
        (state((0x7, 0xFFFF000)), state(), None),
        # Reserved bits, and base bits that the mask leaves out.
        (state((0xC0000000, 0xC0000000 | VALID)), state((0xC0000F00, 0xC00007FF | VALID)), None),
        (state((0xC0000000, 0xC0000000 | VALID)), state((0xD0000000, 0xC0000000 | VALID)), None),
        # Mask bits above the CPU's addresses.
        (state((0xC0000000, 0xC0000000 | VALID)), state((0xC0000000, 0xFFC0000000 | VALID)), None),
        # Another order, and two halves for a whole.
        (
            state(covers(1 << 31, 1 << 30, UC), covers(1 << 24, 1 << 24, WT)),
            state(covers(1 << 24, 1 << 24, WT), covers(1 << 31, 1 << 30, UC)),
            None,
        ),
        (
            state(covers(1 << 31, 1 << 31, UC)),
            state(covers(1 << 31, 1 << 30, UC), covers(3 << 30, 1 << 30, UC)),
            None,
        ),
        # What a range says that the default says too; what a stronger range hides.
        (state(covers(1 << 31, 1 << 31, WB)), state(), None),
        (
            state(covers(1 << 31, 1 << 31, UC), covers(3 << 30, 1 << 20, WC)),
            state(covers(1 << 31, 1 << 31, UC)),
            None,
        ),
        # Fixed ranges that are off, MTRRs that are off.
        (state(default=ON | WB), state(default=ON | WB, fixed=(0,) * 11), None),
        (state(default=WB), state(covers(1 << 31, 1 << 31, WC), default=FIXED), None),
        # A default of UC without ranges is what MTRRs that are off say.
        (state(default=ON | UC), state(default=WB), None),
        # What has an effect.
        (state(), state(fixed=(*ROMS[:2], 1 << 56, *ROMS[3:])), 0xBC000),
        (state(), state(default=ON | WB), 0xA0000),
        (state(), state(covers(1 << 31, 1 << 12, WT)), 1 << 31),
        (state(), state(default=WB), 0),
        (state(default=ON | FIXED | UC), state(), 1 << 20),
        # A range below 1 MiB is hidden by the fixed ones.
        (state(covers(0, 1 << 19, WC)), state(), None),
        (state(covers(0, 1 << 21, WC)), state(), 1 << 20),
    ],
)
def test_by_what_they_mean(one: MtrrState, other: MtrrState, address: int | None) -> None:
    assert first_difference(one, other, physical_bits=PHYSICAL_BITS) == address
    assert first_difference(other, one, physical_bits=PHYSICAL_BITS) == address


BITS = st.integers(0, 63).map(lambda bits: bits << 18)
PAIRS = st.lists(st.tuples(BITS, BITS, st.sampled_from([UC, WC, WT, WP, WB]), st.booleans()), max_size=4).map(
    lambda ranges: [(base | memtype, mask | (VALID if valid else 0)) for base, mask, memtype, valid in ranges]
)


@given(PAIRS, PAIRS, st.sampled_from([ON | FIXED | WB, ON | WB, ON | FIXED, WB]))
def test_against_every_page(one: list[tuple[int, int]], other: list[tuple[int, int]], default: int) -> None:
    states = state(*one, default=default), state(*other)
    # Address bits below 18 decide nothing above 1 MiB.
    asked = [*range(0, 1 << 20, 1 << 12), *range(1 << 20, 1 << 24, 1 << 18)]
    differing = [
        each for each in asked if memory_type_at(states[0], each) is not memory_type_at(states[1], each)
    ]
    assert first_difference(*states, physical_bits=24) == (differing[0] if differing else None)


def test_masks_with_holes_are_compared_without_a_look_at_each_page() -> None:
    """Every other bit of 2**40 pages."""
    holes = 0x5555555555000
    one = state((0 | WC, holes | VALID), (0x1000 | WT, holes | VALID))
    other = state(
        (0x1000 | WT, holes | VALID), (0 | WC, holes | VALID), (1 << 51 | WP, (1 << 52) - 4096 | VALID)
    )
    assert first_difference(one, other, physical_bits=52) == 1 << 51


def test_registers_made_to_take_for_ever_are_given_up() -> None:
    """Sixteen registers, each of which looks at one bit of its own besides the page's: 2**16 sets match."""
    one = state(*((1 << 12 | WB, (1 << 30 + bit | 1 << 12) | VALID) for bit in range(8)))
    other = state(*((1 << 12 | WB, (1 << 38 + bit | 1 << 12) | VALID) for bit in range(8)))
    with pytest.raises(Undecided):
        first_difference(one, other, physical_bits=52)
