import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import (
    FIXED_MSRS,
    UNDEFINED,
    MtrrRange,
    MtrrState,
    MtrrType,
    decode,
    encode_range,
    memory_type_at,
)

UC, WC, WT, WP, WB = (MemType[name] for name in ("UC", "WC", "WT", "WP", "WB"))
MTRR_TYPES = (UC, WC, WT, WP, WB)

CAPABILITY = 0x508  # MTRRcap of QEMU 7.2: eight variable MTRRs, FIX, WC
ALL_WB = (0x0606060606060606,) * 11
NO_PAIRS = ((0, 0),) * 8

# Intel SDM vol. 3, "Address Mapping for Fixed-Range MTRRs": register, first address, bytes per field.
FIXED_FIELDS = [
    (0x250, 0x00000, 0x10000),
    (0x258, 0x80000, 0x4000),
    (0x259, 0xA0000, 0x4000),
    (0x268, 0xC0000, 0x1000),
    (0x269, 0xC8000, 0x1000),
    (0x26A, 0xD0000, 0x1000),
    (0x26B, 0xD8000, 0x1000),
    (0x26C, 0xE0000, 0x1000),
    (0x26D, 0xE8000, 0x1000),
    (0x26E, 0xF0000, 0x1000),
    (0x26F, 0xF8000, 0x1000),
]


def state(
    default: int,
    *pairs: tuple[int, int],
    fixed: tuple[int, ...] = ALL_WB,
    capability: int = CAPABILITY,
) -> MtrrState:
    return MtrrState(capability, default, fixed, (*pairs, *NO_PAIRS)[:8])


@pytest.mark.parametrize("number", range(88))
def test_fixed_range(number: int) -> None:
    register, field = divmod(number, 8)
    msr, start, size = FIXED_FIELDS[register]
    assert FIXED_MSRS[register] == msr
    values = list(ALL_WB)
    values[register] ^= (0x06 ^ 0x04) << 8 * field
    mtrrs = state(0xC00, fixed=tuple(values))
    first = start + field * size
    assert decode(mtrrs).fixed[number] == MtrrRange(first, size, WT)
    assert memory_type_at(mtrrs, first) is WT
    assert memory_type_at(mtrrs, first + size - 1) is WT
    assert memory_type_at(mtrrs, first + size) is (UC if number == 87 else WB)
    if number:
        assert memory_type_at(mtrrs, first - 1) is WB


def test_fixed_ranges_fill_the_first_mib() -> None:
    fixed = decode(state(0xC00)).fixed
    assert len(fixed) == 88
    ends = [each.base + each.size for each in fixed]
    assert [each.base for each in fixed] == [0, *ends[:-1]]
    assert ends[-1] == 1 << 20


def test_enable_bits() -> None:
    # Intel SDM vol. 3, "IA32_MTRR_DEF_TYPE MSR": E clear makes all memory UC; FE clear leaves the first MiB
    # to the variable ranges and the default.
    pair = (0x0 | WT, 0xFFFFE00800)  # 2M at 0
    assert memory_type_at(state(0x406, pair), 0) is UC
    assert memory_type_at(state(0x806, pair), 0) is WT
    assert memory_type_at(state(0xC06, pair, fixed=(0x05 * 0x0101010101010101,) * 11), 0) is WP
    assert memory_type_at(state(0xC06, pair, capability=0x408), 0) is WT
    assert memory_type_at(state(0xC06, pair), 0x1FFFFF) is WT
    assert memory_type_at(state(0xC06, pair), 0x200000) is WB


def test_invalid_pair_is_ignored() -> None:
    assert memory_type_at(state(0xC06, (0x200000 | UC, 0xFFFFE00000)), 0x200000) is WB


@pytest.mark.parametrize("count", range(1, 6))
def test_precedences(count: int) -> None:
    # Intel SDM vol. 3, "MTRR Precedences": UC wins; WT over WB; all others are undefined.
    for types in itertools.permutations(MTRR_TYPES, count):
        names = sorted(memtype.name for memtype in types)
        expected: MtrrType
        if count == 1:
            expected = types[0]
        elif "UC" in names:
            expected = UC
        else:
            expected = WT if names == ["WB", "WT"] else UNDEFINED
        pairs = [(0x40000000 | memtype, 0xFFC0000800) for memtype in types]
        assert memory_type_at(state(0xC06, *pairs), 0x40000000) is expected


def test_mask_with_holes() -> None:
    # Intel SDM vol. 3, "Discontinuous ranges" are legal: address bits 31:28 of this mask are free.
    mtrrs = state(0xC00, (0x0C000000 | WB, 0xFF0F000800))
    assert [a for a in range(1 << 24, 1 << 33, 1 << 24) if memory_type_at(mtrrs, a) is WB] == [
        0x0C000000 + (i << 28) for i in range(16)
    ]


PAGE_BITS = range(12, 21)
HIGH_MASK = 0xFFFFE00000


@st.composite
def variable_pair(draw: st.DrawFn) -> tuple[int, int]:
    base = draw(st.integers(0, 511)) << 12 | draw(st.sampled_from(MTRR_TYPES))
    valid = draw(st.sampled_from((0x800, 0x800, 0)))
    return base, HIGH_MASK | draw(st.integers(0, 511)) << 12 | valid


def pages_covered(base: int, mask: int) -> set[int]:
    """All pages below 2 MiB that agree with the base in each bit of the mask, made bit by bit."""
    pages = {0}
    for bit in PAGE_BITS:
        if mask >> bit & 1:
            pages = {page | base & 1 << bit for page in pages}
        else:
            pages |= {page | 1 << bit for page in pages}
    return pages


@given(
    pairs=st.lists(variable_pair(), max_size=8),
    fixed=st.tuples(*[st.lists(st.sampled_from(MTRR_TYPES), min_size=8, max_size=8)] * 11),
    fixed_enabled=st.booleans(),
    default=st.sampled_from(MTRR_TYPES),
)
def test_against_brute_force(
    pairs: list[tuple[int, int]],
    fixed: tuple[list[MemType], ...],
    fixed_enabled: bool,
    default: MemType,
) -> None:
    # The rules of "MTRR Precedences", page by page over 2 MiB.
    matches: dict[int, set[str]] = {page: set() for page in range(0, 1 << 21, 1 << 12)}
    for base, mask in pairs:
        if mask & 0x800:
            for page in pages_covered(base, mask):
                matches[page].add(MemType(base & 0xFF).name)
    expected: dict[int, MtrrType] = {}
    for page, names in matches.items():
        if "UC" in names:
            expected[page] = UC
        elif names == {"WT", "WB"}:
            expected[page] = WT
        elif len(names) > 1:
            expected[page] = UNDEFINED
        else:
            expected[page] = MemType[names.pop()] if names else default
    if fixed_enabled:
        for (_, start, size), types in zip(FIXED_FIELDS, fixed, strict=True):
            for page in range(start, start + 8 * size, 1 << 12):
                expected[page] = types[(page - start) // size]

    registers = tuple(int.from_bytes(bytes(types), "little") for types in fixed)
    mtrrs = state(0x800 | fixed_enabled << 10 | default, *pairs, fixed=registers)
    assert {page: memory_type_at(mtrrs, page) for page in expected} == expected


@pytest.mark.parametrize("encoding", [2, 3, 7, 8, 0x18, 0xFF])
def test_reserved_type_names_its_register(encoding: int) -> None:
    with pytest.raises(ValueError, match=f"MTRR 0x2ff holds the reserved memory type {encoding:#04x}"):
        decode(state(0xC00 | encoding))
    with pytest.raises(ValueError, match=f"MTRR 0x202 holds the reserved memory type {encoding:#04x}"):
        decode(state(0xC00, (0, 0), (encoding, 0xFFFFE00800)))
    decode(state(0xC00, (0, 0), (encoding, 0xFFFFE00000)))
    fixed = (*ALL_WB[:10], encoding << 24)
    with pytest.raises(ValueError, match=f"MTRR 0x26f byte 3 holds the reserved memory type {encoding:#04x}"):
        decode(state(0xC00, fixed=fixed))


def test_wrong_number_of_registers() -> None:
    with pytest.raises(ValueError, match="11 fixed-range MTRRs, not 10"):
        decode(state(0xC06, fixed=ALL_WB[:10]))
    with pytest.raises(ValueError, match="0x508 says 8 variable MTRRs, not 7"):
        MtrrState(CAPABILITY, 0xC06, ALL_WB, NO_PAIRS[:7])
    with pytest.raises(ValueError, match="isn't a 64-bit register value"):
        decode(state(0xC06, fixed=(*ALL_WB[:10], 1 << 64)))


@pytest.mark.parametrize("address", [-1, 1 << 52])
def test_no_such_address(address: int) -> None:
    with pytest.raises(ValueError, match="isn't a physical address"):
        memory_type_at(state(0xC06), address)


@pytest.mark.parametrize(
    ("mtrr_range", "physical_bits", "pair"),
    [
        # Intel SDM vol. 3, "Base and Mask Calculations", "Setting-Up Memory for a System", 36 bits.
        (MtrrRange(0, "64M", WB), 36, (0x0000000000000006, 0x0000000FFC000800)),
        (MtrrRange("64M", "32M", WB), 36, (0x0000000004000006, 0x0000000FFE000800)),
        (MtrrRange("96M", "4M", WB), 36, (0x0000000006000006, 0x0000000FFFC00800)),
        (MtrrRange("64M", "4M", UC), 36, (0x0000000004000000, 0x0000000FFFC00800)),
        (MtrrRange("15M", "1M", UC), 36, (0x0000000000F00000, 0x0000000FFFF00800)),
        (MtrrRange(0xA0000000, "8M", WC), 36, (0x00000000A0000001, 0x0000000FFF800800)),
        # What SeaBIOS 1.16 sets on q35 with 40 bits, as read in a guest.
        (MtrrRange(0xC0000000, "1G", UC), 40, (0x00000000C0000000, 0x000000FFC0000800)),
        # Smallest and greatest.
        (MtrrRange(0xFD000000, "4K", WP), 52, (0x00000000FD000005, 0x000FFFFFFFFFF800)),
        (MtrrRange(0, 1 << 40, WT), 40, (0x0000000000000004, 0x0000000000000800)),
        # Discontinuous: address bits 31:28 don't matter.
        (MtrrRange(0x0C000000, "16M", WB, ignored_bits=0xF0000000), 40, (0x0C000006, 0xFF0F000800)),
    ],
)
def test_encode_range(mtrr_range: MtrrRange, physical_bits: int, pair: tuple[int, int]) -> None:
    assert encode_range(mtrr_range, physical_bits) == pair


@pytest.mark.parametrize(
    ("mtrr_range", "reason"),
    [
        (MtrrRange(0, "16M", MemType.UC_MINUS), "UC- isn't an MTRR memory type; use UC, WC, WT, WP, WB"),
        (MtrrRange(0, 0, WB), "size 0x0 is less than 4K"),
        (MtrrRange(0, -4096, WB), "size -0x1000 is less than 4K"),
        (MtrrRange(0, "2K", WB), "size 0x800 is less than 4K"),
        (MtrrRange(0, "12K", WB), "size 0x3000 isn't a power of two"),
        (MtrrRange(0, 4097, WB), "size 0x1001 isn't a power of two"),
        (MtrrRange("8M", "16M", WB), "base 0x800000 isn't a multiple of the size 16M"),
        (MtrrRange(1, "4K", WB), "base 0x1 isn't a multiple of the size 4K"),
        (MtrrRange(-4096, "4K", WB), "base -0x1000 isn't a multiple of the size 4K"),
        (MtrrRange(1 << 40, "4K", WB), "end 0x10000001000 lies beyond the CPU's 40 bits"),
        (MtrrRange(0, 1 << 41, WB), "end 0x20000000000 lies beyond the CPU's 40 bits"),
        (MtrrRange(0, "4K", WB, ignored_bits=1 << 40), "ignored bits 0x10000000000 lie beyond the CPU's 40"),
        (MtrrRange(0, "4K", WB, ignored_bits=-4096), "ignored bits -0x1000 lie beyond the CPU's 40 bits"),
        (MtrrRange(0, "16K", WB, ignored_bits=0x9000), "ignored bits 0x9000 are inside the size 16K"),
        (MtrrRange(0, "16K", WB, ignored_bits=0xC000), "ignored bits 0xc000 only double the size; write 32K"),
        (
            MtrrRange("1M", "16K", WB, ignored_bits=0x180000),
            "base 0x100000 has bits set that .* clear 0x100000",
        ),
    ],
)
def test_encode_range_refuses(mtrr_range: MtrrRange, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        encode_range(mtrr_range, 40)


def test_range_reads_text() -> None:
    assert MtrrRange("0xFD000000", "16M", WC) == MtrrRange(0xFD000000, 1 << 24, WC)
    assert str(MtrrRange("0xFD000000", "16M", WC)) == "16M WC at 0xfd000000"
    with pytest.raises(ValueError, match="'16Q' isn't a number of bytes"):
        MtrrRange(0, "16Q", WB)
