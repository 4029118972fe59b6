import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_memtype.errors import LayoutError
from pytest_memtype.machine.layout import Layout, layout_names, load_layout, register_writes, validate
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import FIXED_MSRS, MtrrRange, MtrrState, memory_type_at

UC, WC, WT, WP, WB, UC_MINUS = (MemType[name] for name in ("UC", "WC", "WT", "WP", "WB", "UC_MINUS"))
MTRR_TYPES = (UC, WC, WT, WP, WB)
PHYSICAL_BITS = 40  # of qemu64
RAM, BAR = MtrrRange(0, "256M", WB), "0xFD000000"

# SeaBIOS 1.16, src/fw/mtrr.c: 0-9FFFF WB, A0000-BFFFF UC, C0000-FFFFF WP.
SEABIOS_FIXED = (0x0606060606060606, 0x0606060606060606, 0, *(0x0505050505050505,) * 8)


def programmed(layout: Layout) -> MtrrState:
    """The registers of a guest's boot CPU after its boot ROM."""
    registers = dict(zip(FIXED_MSRS, SEABIOS_FIXED, strict=True))
    registers |= {0x200: 0xC0000000, 0x201: 0xFFC0000800, 0x2FF: 0xC06}  # SeaBIOS 1.16 on q35
    registers |= dict(register_writes(layout, physical_bits=PHYSICAL_BITS))
    return MtrrState(
        0x508,
        registers[0x2FF],
        tuple(registers[msr] for msr in FIXED_MSRS),
        tuple((registers.get(0x200 + 2 * i, 0), registers.get(0x201 + 2 * i, 0)) for i in range(8)),
    )


def test_named_layouts() -> None:
    assert layout_names() == ("firmware", "uc-default", "wb-device", "wc-framebuffer")
    for name in layout_names():
        layout = load_layout(name)
        assert layout.name == name
        assert layout.description
        validate(layout, physical_bits=PHYSICAL_BITS)


def test_named_layout_equals_the_one_written_inline() -> None:
    # The example of the public interface.
    inline = Layout("wc-framebuffer", default=UC, ranges=[RAM, MtrrRange(0xFD000000, "16M", WC)])
    assert load_layout("wc-framebuffer") == inline
    assert hash(load_layout("wc-framebuffer")) == hash(inline)
    assert inline != dataclasses.replace(inline, default=WB)


@pytest.mark.parametrize(
    ("name", "device", "mmconfig"),
    [("firmware", UC, WB), ("wc-framebuffer", WC, UC), ("wb-device", WB, UC), ("uc-default", UC, UC)],
)
def test_what_a_named_layout_gives(name: str, device: MemType, mmconfig: MemType) -> None:
    mtrrs = programmed(load_layout(name))
    expected = {
        0x0: WB,
        0x9FFFF: WB,
        0xA0000: UC,  # VGA window
        0xFFFFF: WP,  # BIOS
        0x100000: WB,
        0x0FFFFFFF: WB,  # end of 256 MiB RAM
        0xB0000000: mmconfig,
        0xFCFFFFFF: UC,
        0xFD000000: device,
        0xFDFFFFFF: device,
        0xFE000000: UC,
        0xFEC00000: UC,  # IOAPIC
        0xFED00000: UC,  # HPET
        0xFEE00000: UC,  # local APIC
    }
    assert {address: memory_type_at(mtrrs, address) for address in expected} == expected


def test_register_writes() -> None:
    layout = Layout("a", default=UC, ranges=[RAM, MtrrRange(BAR, "16M", WC)])
    assert register_writes(layout, physical_bits=36, variable_registers=3) == (
        (0x2FF, 0),
        (0x200, 0x000000006),
        (0x201, 0xFF0000800),
        (0x202, 0x0FD000001),
        (0x203, 0xFFF000800),
        (0x204, 0),
        (0x205, 0),
        (0x2FF, 0xC00),
    )
    fixed = Layout("b", default=WB, fixed=SEABIOS_FIXED)
    assert register_writes(fixed, physical_bits=36, variable_registers=1) == (
        (0x2FF, 0),
        (0x200, 0),
        (0x201, 0),
        (0x250, 0x0606060606060606),
        (0x258, 0x0606060606060606),
        (0x259, 0),
        *((0x268 + i, 0x0505050505050505) for i in range(8)),
        (0x2FF, 0xC06),
    )
    assert register_writes(Layout("firmware"), physical_bits=36) == ()


@st.composite
def mtrr_ranges(draw: st.DrawFn) -> MtrrRange:
    size = 1 << draw(st.integers(12, PHYSICAL_BITS))
    base = size * draw(st.integers(0, (1 << PHYSICAL_BITS) // size - 1))
    return MtrrRange(base, size, draw(st.sampled_from(MTRR_TYPES)))


layouts = st.builds(
    Layout,
    st.just("random"),
    default=st.sampled_from(MTRR_TYPES),
    ranges=st.lists(mtrr_ranges(), min_size=1, max_size=8),
    fixed=st.none() | st.just(SEABIOS_FIXED),
)


@settings(deadline=None)
@given(layout=layouts, anywhere=st.integers(1 << 20, (1 << PHYSICAL_BITS) - 1))
def test_valid_layout_gives_what_it_says(layout: Layout, anywhere: int) -> None:
    mtrrs = programmed(layout)
    edges = {
        address
        for each in layout.ranges
        for address in (each.base - 1, each.base, each.base + each.size - 1, each.base + each.size)
    }
    for address in {anywhere, *edges}:
        if 1 << 20 <= address < 1 << PHYSICAL_BITS:
            here = {each.memtype for each in layout.ranges if 0 <= address - each.base < each.size}
            if len(here) < 2:
                assert memory_type_at(mtrrs, address) is (here.pop() if here else layout.default)
            elif UC in here:
                assert memory_type_at(mtrrs, address) is UC


Corruption = Callable[[Layout, st.DataObject], Layout]


def _with_range(layout: Layout, data: st.DataObject, change: Callable[[MtrrRange], MtrrRange]) -> Layout:
    ranges = list(layout.ranges)
    at = data.draw(st.integers(0, len(ranges) - 1))
    ranges[at] = change(ranges[at])
    return dataclasses.replace(layout, ranges=tuple(ranges))


def _odd_size(layout: Layout, data: st.DataObject) -> Layout:
    extra = data.draw(st.integers(1, 4095))
    return _with_range(layout, data, lambda each: dataclasses.replace(each, size=each.size + extra))


def _three_quarters(layout: Layout, data: st.DataObject) -> Layout:
    return _with_range(layout, data, lambda each: dataclasses.replace(each, size=each.size // 4 * 3))


def _small_size(layout: Layout, data: st.DataObject) -> Layout:
    size = data.draw(st.integers(-(1 << 40), 4095))
    return _with_range(layout, data, lambda each: dataclasses.replace(each, size=size))


def _odd_base(layout: Layout, data: st.DataObject) -> Layout:
    shift = data.draw(st.integers(1, 4095))
    return _with_range(layout, data, lambda each: dataclasses.replace(each, base=each.base + shift))


def _half_base(layout: Layout, data: st.DataObject) -> Layout:
    return _with_range(layout, data, lambda each: dataclasses.replace(each, base=each.base + each.size // 2))


def _negative_base(layout: Layout, data: st.DataObject) -> Layout:
    return _with_range(layout, data, lambda each: dataclasses.replace(each, base=-each.base - each.size))


def _beyond(layout: Layout, data: st.DataObject) -> Layout:
    bit = data.draw(st.integers(PHYSICAL_BITS, 63))
    return _with_range(layout, data, lambda each: dataclasses.replace(each, base=each.base | 1 << bit))


def _no_type(layout: Layout, data: st.DataObject) -> Layout:
    # A test author's program isn't checked for types: a bare reserved encoding may arrive here.
    memtype = cast(MemType, data.draw(st.sampled_from([UC_MINUS, 2, 3, 8, 255, -1])))
    return _with_range(layout, data, lambda each: dataclasses.replace(each, memtype=memtype))


def _too_many(layout: Layout, data: st.DataObject) -> Layout:
    spare = data.draw(st.lists(mtrr_ranges(), min_size=9 - len(layout.ranges), max_size=12))
    return dataclasses.replace(layout, ranges=(*layout.ranges, *spare))


CORRUPTIONS: list[Corruption] = [
    _odd_size,
    _three_quarters,
    _small_size,
    _odd_base,
    _half_base,
    _negative_base,
    _beyond,
    _no_type,
    _too_many,
]


@settings(max_examples=300, deadline=None)
@given(layout=layouts, corruption=st.sampled_from(CORRUPTIONS), data=st.data())
def test_corrupted_layout_is_refused_in_one_line_that_names_the_range(
    layout: Layout, corruption: Corruption, data: st.DataObject
) -> None:
    validate(layout, physical_bits=PHYSICAL_BITS)
    corrupted = corruption(layout, data)
    with pytest.raises(LayoutError) as refusal:
        validate(corrupted, physical_bits=PHYSICAL_BITS)
    message = str(refusal.value)
    assert "\n" not in message
    # The changed range, or the first without a register.
    wrong = next(
        (i for i, (old, new) in enumerate(zip(layout.ranges, corrupted.ranges, strict=False)) if old != new),
        8,
    )
    assert message.startswith(f"layout 'random': range {wrong + 1} ({corrupted.ranges[wrong]})")


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (Layout("x y", default=UC), "layout 'x y': a name is made of"),
        (Layout("", default=UC), "layout '': a name is made of"),
        (Layout("a\nb", default=UC), r"layout 'a\\nb': a name is made of"),
        (Layout("a", ranges=[RAM]), "layout 'a' has ranges but no default type"),
        (Layout("a", fixed=SEABIOS_FIXED), "layout 'a' has ranges but no default type"),
        (Layout("a", default=UC_MINUS), "layout 'a': the default UC- isn't an MTRR memory type"),
        (
            Layout("a", default=UC, fixed=SEABIOS_FIXED[:10]),
            "layout 'a': fixed ranges: there are 11 .*, not 10",
        ),
        (
            Layout("a", default=UC, fixed=(*SEABIOS_FIXED[:10], 0x0300)),
            "layout 'a': fixed ranges: MTRR 0x26f byte 1 holds the reserved memory type 0x03",
        ),
        (
            Layout("a", default=UC, ranges=[RAM, MtrrRange("8M", "16M", WC)]),
            r"layout 'a': range 2 \(16M WC at 0x800000\): base 0x800000 isn't a multiple of the size 16M",
        ),
        (
            Layout("a", default=UC, ranges=[RAM] * 9),
            r"layout 'a': range 9 \(256M WB at 0x0\) is one too many: the CPU has 8 variable MTRRs",
        ),
    ],
)
def test_refusals(layout: Layout, message: str) -> None:
    with pytest.raises(LayoutError, match=message) as refusal:
        register_writes(layout, physical_bits=PHYSICAL_BITS)
    assert "\n" not in str(refusal.value)


def test_layouts_of_the_users(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'description = "mine"\ndefault = "WB"\nfixed = ['
        + ", ".join(f'"{value:#x}"' for value in SEABIOS_FIXED)
        + ']\n[[ranges]]\nbase = "4G"\nsize = 0x1000\ntype = "wt"\n'
    )
    assert load_layout("mine", [tmp_path]) == Layout(
        "mine", default=WB, ranges=[MtrrRange(1 << 32, 4096, WT)], fixed=SEABIOS_FIXED
    )
    assert layout_names([tmp_path, tmp_path / "missing"]) == (
        "firmware",
        "mine",
        "uc-default",
        "wb-device",
        "wc-framebuffer",
    )
    (tmp_path / "firmware.toml").write_text('description = "shadows"\n')
    assert load_layout("firmware", [tmp_path]).description == "shadows"


@pytest.mark.parametrize("name", ["nothing", "", "../layouts/firmware", "firmware.toml"])
def test_unknown_name(name: str) -> None:
    with pytest.raises(
        LayoutError, match=r"no layout is called .*known are firmware, uc-default, wb-device"
    ) as refusal:
        load_layout(name)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("default = ", "Invalid value"),
        ("", "description is missing"),
        ("description = 1", "description = 1 has the wrong type"),
        (
            'description = ""\ncolour = 1',
            "unknown key 'colour'; known are description, default, ranges, fixed",
        ),
        ('description = ""\ndefault = "pink"', "unknown memory type 'pink'"),
        ('description = ""\nfixed = [true, 1.5]', "1.5 isn't a number of bytes"),
        ('description = ""\nranges = [1]', "range 1: isn't a table"),
        ('description = ""\n[[ranges]]\nbase = 0\nsize = "4K"', "range 1: type is missing"),
        ('description = ""\n[[ranges]]\nbase = 0\nsize = "4Q"\ntype = "WB"', "range 1: '4Q' isn't a number"),
        (
            'description = ""\n[[ranges]]\nbase = 0\nsize = 1.5\ntype = "WB"',
            "range 1: size = 1.5 has the wrong",
        ),
        ("\udcff", "can't decode"),
    ],
)
def test_file_that_is_no_layout(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "broken.toml"
    file.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(LayoutError, match=message) as refusal:
        load_layout("broken", [tmp_path])
    assert str(refusal.value).startswith(f"{file}: ")
    assert "\n" not in str(refusal.value)
