"""Random layouts for property-based tests; needs hypothesis (``pip install '.[strategies]'``).

::

    from hypothesis import given
    from pytest_memtype.strategies import layouts

    @given(layouts())
    def test_my_reader_of_mtrrs(layout): ...

A fixture makes no guest per example, so a test that boots the layouts asks ``guest_factory`` for guests.
"""

from __future__ import annotations

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise ImportError(
        "pytest_memtype.strategies needs hypothesis; pip install '.[strategies]' in pytest-memtype's checkout"
    ) from error

from pytest_memtype.machine.hardware import PHYSICAL_BITS, ram_ranges
from pytest_memtype.machine.layout import VARIABLE_REGISTERS, Layout
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import FIXED_MSRS, MTRR_TYPES, MtrrRange
from pytest_memtype.x86.size import parse_size

_PAGE_BITS = 12

mtrr_types: st.SearchStrategy[MemType] = st.sampled_from(sorted(MTRR_TYPES))
"""The five types that an MTRR can hold."""


@st.composite
def mtrr_ranges(
    draw: st.DrawFn, *, physical_bits: int = PHYSICAL_BITS, above: int | str = 0, holes: bool = True
) -> MtrrRange:
    """Ranges that one variable MTRR can hold; they crowd near the bottom, so that two of them often overlap.

    :param draw: Given by hypothesis; callers leave it out.
    :param physical_bits: Width of the CPU's physical addresses in bits.
    :param above: Address, as bytes or text with a unit, below which the ranges leave memory alone; it is
        rounded up to a power of two.
    :param holes: May some of the masks have holes?
    """
    lowest = max(parse_size(above) - 1, 0).bit_length()
    shift = draw(st.integers(_PAGE_BITS, physical_bits - bool(lowest)))
    first = 1 << max(lowest - shift, 0) if lowest else 0
    last = (1 << (physical_bits - shift)) - 1
    base = draw(st.integers(first, min(last, max(first, 16))) | st.integers(first, last)) << shift
    ignored = 0
    if holes and draw(st.integers(0, 3)) == 0:
        candidates = [bit for bit in range(shift + 1, physical_bits) if not base >> bit & 1]
        ignored = sum(
            1 << bit for bit in draw(st.sets(st.sampled_from(candidates or [0]), max_size=4)) if bit
        )
    return MtrrRange(base, 1 << shift, draw(mtrr_types), ignored_bits=ignored)


def _inside(draw: st.DrawFn, outer: MtrrRange) -> MtrrRange:
    """A range that lies in another, or covers exactly that one."""
    most = outer.size.bit_length() - 1
    shift = draw(st.integers(max(_PAGE_BITS, most - 4), most))
    base = outer.base + (draw(st.integers(0, (outer.size >> shift) - 1)) << shift)
    return MtrrRange(base, 1 << shift, draw(mtrr_types))


@st.composite
def layouts(
    draw: st.DrawFn,
    *,
    physical_bits: int = PHYSICAL_BITS,
    variable_registers: int = VARIABLE_REGISTERS,
    memory: int | str | None = None,
) -> Layout:
    """Random layouts that the MTRRs of a CPU can express.

    :param draw: Given by hypothesis; callers leave it out.
    :param physical_bits: Width of the CPU's physical addresses in bits.
    :param variable_registers: Number of the CPU's variable MTRRs.
    :param memory: RAM that stays write-back, the fixed ranges aside, as bytes or text with a unit: Linux
        gives up RAM that isn't (``mtrr_trim_uncached_memory``). The MTRRs are enabled then. None for none.
    """
    default = draw(mtrr_types)
    ranges: list[MtrrRange] = []
    last = ram_ranges(parse_size(memory or 0))[-1]
    end = last.start + last.size
    if memory is not None and default is not MemType.WB:
        ranges.append(MtrrRange(0, 1 << max(end - 1, 0).bit_length(), MemType.WB))
    some = mtrr_ranges(physical_bits=physical_bits, above=end)
    others: list[MtrrRange] = []
    for _ in range(draw(st.integers(0, variable_registers - len(ranges)))):
        # By chance alone three ranges hardly ever meet.
        nested = draw(st.booleans())
        if others and nested:
            others.append(_inside(draw, draw(st.sampled_from(others))))
        else:
            others.append(draw(some))
    ranges += others
    order = draw(st.permutations(range(variable_registers)))
    fixed = st.lists(mtrr_types, min_size=8, max_size=8).map(
        lambda types: int.from_bytes(bytes(types), "little")
    )
    return Layout(
        "random",
        default=default,
        ranges=[
            MtrrRange(each.base, each.size, each.memtype, ignored_bits=each.ignored_bits, register=register)
            for each, register in zip(
                ranges, order if draw(st.booleans()) else [None] * len(ranges), strict=False
            )
        ],
        fixed=draw(st.none() | st.tuples(*[fixed] * len(FIXED_MSRS))),
        enabled=memory is not None or draw(st.integers(0, 7)) > 0,
        fixed_enabled=draw(st.integers(0, 3)) > 0,
        description="made by pytest_memtype.strategies",
    )
