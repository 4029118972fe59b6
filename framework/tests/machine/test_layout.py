"""What a layout gives, and which layouts are refused."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from pytest_memtype.audit.vector import UNDEFINED_CODE, memory_types
from pytest_memtype.errors import LayoutError
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.layout import Layout, check_bootable, intended, register_writes, validate
from pytest_memtype.machine.layout_file import load_layout
from pytest_memtype.run.boot import GuestPlan, booted
from pytest_memtype.strategies import layouts, mtrr_ranges
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import MtrrRange, memory_type_at

UC, WC, WT, WP, WB, UC_MINUS = (MemType[name] for name in ("UC", "WC", "WT", "WP", "WB", "UC_MINUS"))
PHYSICAL_BITS = 40  # of qemu64
RAM, BAR = MtrrRange(0, "256M", WB), "0xFD000000"

# SeaBIOS 1.16, src/fw/mtrr.c: 0-9FFFF WB, A0000-BFFFF UC, C0000-FFFFF WP.
SEABIOS_FIXED = (0x0606060606060606, 0x0606060606060606, 0, *(0x0505050505050505,) * 8)


@pytest.mark.parametrize(
    ("name", "device", "mmconfig"),
    [("firmware", UC, WB), ("wc-framebuffer", WC, UC), ("wb-device", WB, UC), ("uc-default", UC, UC)],
)
def test_what_a_named_layout_gives(name: str, device: MemType, mmconfig: MemType) -> None:
    mtrrs = intended(load_layout(name), physical_bits=PHYSICAL_BITS)
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


def test_enable_bits() -> None:
    # Intel SDM vol. 3, "IA32_MTRR_DEF_TYPE MSR": FE is bit 10, E bit 11.
    def last_write(layout: Layout) -> tuple[int, int]:
        return register_writes(layout, physical_bits=36)[-1]

    assert last_write(Layout("a", default=WB)) == (0x2FF, 0xC06)
    assert last_write(Layout("a", default=WB, enabled=False)) == (0x2FF, 0x406)
    assert last_write(Layout("a", default=WB, fixed_enabled=False)) == (0x2FF, 0x806)


def test_registers_by_number() -> None:
    layout = Layout(
        "a", default=UC, ranges=[RAM, MtrrRange(BAR, "16M", WC, register=0), MtrrRange(BAR, "4K", WT)]
    )
    writes = dict(register_writes(layout, physical_bits=36, variable_registers=4))
    assert [writes[0x200 + 2 * n] for n in range(4)] == [0xFD000001, 0x6, 0xFD000004, 0]


# What hardware would do with a write (Intel SDM vol. 3, "IA32_MTRR_DEF_TYPE MSR", "Fixed Range MTRRs",
# "Variable Range MTRRs": reserved bits and reserved types are general-protection exceptions).
def faults(msr: int, value: int) -> bool:
    types = {0, 1, 4, 5, 6}
    if value >> 64:
        return True
    if msr == 0x2FF:
        return bool(value & ~0xCFF) or value & 0xFF not in types
    if 0x200 <= msr < 0x210:
        reserved = 0xF00 if msr % 2 == 0 else 0x7FF
        return bool(value >> PHYSICAL_BITS or value & reserved) or (
            msr % 2 == 0 and value & 0xFF not in types
        )
    assert msr in {0x250, 0x258, 0x259, *range(0x268, 0x270)}
    return any(byte not in types for byte in value.to_bytes(8, "little"))


FIXED_RANGES = [
    *((0x10000 * i, 0x10000) for i in range(8)),
    *((0x80000 + 0x4000 * i, 0x4000) for i in range(16)),
    *((0xC0000 + 0x1000 * i, 0x1000) for i in range(64)),
]


def brute_force(layout: Layout, addresses: list[int]) -> list[int]:
    """What a layout says of addresses: from its ranges, without masks, registers or tables."""
    assert layout.default is not None
    fixed = b"".join(value.to_bytes(8, "little") for value in layout.fixed or SEABIOS_FIXED)
    pages = [kind for kind, (_, size) in zip(fixed, FIXED_RANGES, strict=True) for _ in range(size >> 12)]
    answers = []
    for address in addresses:
        if not layout.enabled:
            answers.append(0)
        elif layout.fixed_enabled and address < 1 << 20:
            answers.append(pages[address >> 12])
        else:
            types = [
                each.memtype.name
                for each in layout.ranges
                if each.base <= (address | each.ignored_bits) - each.ignored_bits < each.base + each.size
            ]
            answers.append(outcome(types) if types else int(layout.default))
    return answers


def outcome(types: list[str]) -> int:
    """Intel SDM vol. 3, "MTRR Precedences"."""
    if len(set(types)) == 1:
        return MemType[types[0]]
    if "UC" in types:
        return 0
    return 4 if set(types) == {"WT", "WB"} else UNDEFINED_CODE


def samples(layout: Layout, seed: int) -> list[int]:
    """4,096 addresses: both sides of every border, random ones inside each range, and anywhere."""
    randomly = np.random.default_rng(seed)
    borders = {0, 0x80000, 0xA0000, 0xC0000, 1 << 20}
    for each in layout.ranges:
        borders |= {each.base, each.base + each.size, each.base | each.ignored_bits}
    chosen = [address for border in sorted(borders) for address in (border - 1, border)]
    chosen = [address for address in chosen if 0 <= address < 1 << PHYSICAL_BITS]
    chosen += randomly.integers(0, 1 << 20, 1000).tolist()
    for each in layout.ranges:
        inside = randomly.integers(0, each.size, 2000 // len(layout.ranges))
        again = randomly.integers(0, 1 << PHYSICAL_BITS, inside.size) & each.ignored_bits
        chosen += (each.base + inside | again).tolist()
    rest = 4096 - len(chosen)
    everywhere = randomly.integers(0, 1 << PHYSICAL_BITS, rest) >> randomly.integers(0, 20, rest)
    chosen += everywhere.tolist()
    return chosen


# Making a failing example smaller would take minutes, at 4,096 addresses each.
@settings(max_examples=500, phases=[Phase.reuse, Phase.generate])
@given(layout=layouts(), seed=st.integers(0, 1 << 32))
def test_500_valid_layouts_give_what_they_say(layout: Layout, seed: int) -> None:
    addresses = samples(layout, seed)
    assert len(addresses) == 4096
    mtrrs = intended(layout, physical_bits=PHYSICAL_BITS)
    expected = brute_force(layout, addresses)
    assert memory_types(mtrrs, np.array(addresses, np.uint64)).tolist() == expected
    for address, kind in list(zip(addresses, expected, strict=True))[::32]:
        found = memory_type_at(mtrrs, address)
        assert (found if isinstance(found, MemType) else UNDEFINED_CODE) == kind
    assert not any(faults(*write) for write in register_writes(layout, physical_bits=PHYSICAL_BITS))


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


def _ignored_inside(layout: Layout, data: st.DataObject) -> Layout:
    bit = data.draw(st.integers(0, 11))
    return _with_range(layout, data, lambda each: _ignoring(each, 1 << bit))


def _ignored_next(layout: Layout, data: st.DataObject) -> Layout:
    return _with_range(layout, data, lambda each: _ignoring(each, each.size))


def _ignored_beyond(layout: Layout, data: st.DataObject) -> Layout:
    bit = data.draw(st.integers(PHYSICAL_BITS, 63))
    return _with_range(layout, data, lambda each: _ignoring(each, 1 << bit))


def _ignored_set(layout: Layout, data: st.DataObject) -> Layout:
    def change(each: MtrrRange) -> MtrrRange:
        return _ignoring(dataclasses.replace(each, base=1 << 39, size=4096), 1 << 39)

    return _with_range(layout, data, change)


def _ignoring(mtrr_range: MtrrRange, bits: int) -> MtrrRange:
    return dataclasses.replace(mtrr_range, ignored_bits=mtrr_range.ignored_bits | bits)


def _no_such_register(layout: Layout, data: st.DataObject) -> Layout:
    register = data.draw(st.integers(8, 255) | st.integers(-9, -1))
    return _with_range(layout, data, lambda each: dataclasses.replace(each, register=register))


def _same_register(layout: Layout, data: st.DataObject) -> Layout:
    ranges = [dataclasses.replace(each, register=number) for number, each in enumerate(layout.ranges[:7])]
    again = data.draw(st.integers(0, len(ranges) - 1))
    ranges.append(dataclasses.replace(data.draw(mtrr_ranges()), register=again))
    return dataclasses.replace(layout, ranges=tuple(ranges))


def _too_many(layout: Layout, data: st.DataObject) -> Layout:
    spare = data.draw(st.lists(mtrr_ranges(), min_size=9 - len(layout.ranges), max_size=12))
    ranges = [dataclasses.replace(each, register=None) for each in (*layout.ranges, *spare)]
    return dataclasses.replace(layout, ranges=tuple(ranges))


CORRUPTIONS: list[Corruption] = [
    _odd_size,
    _three_quarters,
    _small_size,
    _odd_base,
    _half_base,
    _negative_base,
    _beyond,
    _no_type,
    _ignored_inside,
    _ignored_next,
    _ignored_beyond,
    _ignored_set,
    _no_such_register,
    _same_register,
    _too_many,
]


@settings(max_examples=300)
@given(
    layout=layouts().filter(lambda each: each.ranges), corruption=st.sampled_from(CORRUPTIONS), data=st.data()
)
def test_300_corrupted_layouts_are_refused_before_qemu_starts(
    layout: Layout, corruption: Corruption, data: st.DataObject
) -> None:
    validate(layout, physical_bits=PHYSICAL_BITS)
    corrupted = corruption(layout, data)
    nothing = Path("/dev/null/none")
    # Were it to start, it would be refused for its kernel or its log folder, and not as a layout.
    with pytest.raises(LayoutError) as refusal:
        booted(GuestPlan(nothing, nothing, corrupted, Hardware()), logs=Path("/dev/null/logs"))
    message = str(refusal.value)
    assert "\n" not in message
    # The line names the range by its number and as it was given.
    named = [f"range {n} ({each})" for n, each in enumerate(corrupted.ranges, start=1)]
    assert any(message.startswith(f"layout 'random': {each}") for each in named)
    if corruption not in (_too_many, _same_register):
        changed = {new for old, new in zip(layout.ranges, corrupted.ranges, strict=True) if old != new}
        assert any(str(each) in message for each in changed)


@settings(max_examples=300)
@given(
    default=st.sampled_from(MemType),
    ranges=st.lists(
        st.builds(
            MtrrRange,
            st.sampled_from([0, 1 << 12, 1 << 20, 1 << 32, 1 << 39, 1 << 40, 4097, -4096]),
            st.sampled_from([1 << 12, 1 << 13, 3 << 12, 1 << 40, 1 << 41, 0, 1, -4096]),
            st.sampled_from([*MemType, cast(MemType, 2), cast(MemType, 0x106)]),
            ignored_bits=st.sampled_from([0, 0, 1 << 12, 1 << 14, 1 << 40, 0x800]),
            register=st.none() | st.integers(-1, 9),
        ),
        max_size=9,
    ),
    fixed=st.none()
    | st.lists(st.sampled_from([0, 6, 0x0606060606060606, 7, 0x1E, 1 << 64, -1]), min_size=10, max_size=11),
)
def test_hardware_would_take_what_is_not_refused(
    default: MemType, ranges: list[MtrrRange], fixed: list[int] | None
) -> None:
    layout = Layout("random", default=default, ranges=ranges, fixed=fixed)
    try:
        writes = register_writes(layout, physical_bits=PHYSICAL_BITS)
    except LayoutError:
        return
    assert not any(faults(*write) for write in writes)
    assert len({msr for msr, _ in writes}) == len(writes) - 1  # DEF_TYPE is first and last


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (Layout("x y", default=UC), "layout 'x y': a name is made of"),
        (Layout("", default=UC), "layout '': a name is made of"),
        (Layout("a\nb", default=UC), r"layout 'a\\nb': a name is made of"),
        (Layout("a", ranges=[RAM]), "layout 'a' says what registers hold but has no default type"),
        (Layout("a", fixed=SEABIOS_FIXED), "layout 'a' says what registers hold but has no default type"),
        (Layout("a", enabled=False), "layout 'a' says what registers hold but has no default type"),
        (
            Layout("a", default=UC, other_cpus=Layout("a")),
            "layout 'a': other CPUs have no default type; give default=",
        ),
        (
            Layout("a", default=UC, other_cpus=Layout("a", default=UC, other_cpus=Layout("a", default=UC))),
            "layout 'a': other CPUs can't have other CPUs themselves",
        ),
        (
            Layout("a", default=UC, other_cpus=Layout("a", default=UC, ranges=[MtrrRange(1, "4K", WB)])),
            r"layout 'a': other CPUs: range 1 \(4K WB at 0x1\): base 0x1 isn't a multiple",
        ),
        (
            Layout(
                "a",
                default=UC,
                ranges=[MtrrRange(0, "4K", WB, register=2), MtrrRange(0, "8K", WB, register=2)],
            ),
            r"layout 'a': range 2 \(8K WB at 0x0\): register 2 holds range 1 \(4K WB at 0x0\) already",
        ),
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


def test_what_firmware_of_real_machines_sets_beside_the_mtrrs() -> None:
    layout = Layout(
        "amd",
        default=UC,
        ranges=[MtrrRange(0, "2G", WB)],
        tom2="9200M",
        tom2_write_back=True,
        smrr=MtrrRange("2040M", "8M", WB),
    )
    state = intended(layout, physical_bits=40)
    below, top = 1 << 32, 9200 << 20
    # AMD APM vol. 2, Tom2ForceMemTypeWB; Intel SDM vol. 3, "System-Management Range Register Interface".
    assert [memory_type_at(state, each) for each in (below - 4096, below, top - 4096, top)] == [
        UC,
        WB,
        WB,
        UC,
    ]
    assert memory_type_at(state, 2040 << 20) is UC
    assert memory_type_at(state, 2040 << 20, in_smm=True) is WB
    plain = intended(Layout("amd", default=UC, tom2="9200M"), physical_bits=40)
    assert memory_type_at(plain, below) is UC


@pytest.mark.parametrize(
    ("extra", "why"),
    [
        ({"tom2": "4G"}, "tom2 0x100000000 isn't a multiple of 8M above 4G that the CPU can address"),
        ({"tom2": "9201M"}, "tom2 0x23f100000 isn't a multiple"),
        ({"tom2": 1 << 41}, "tom2 0x20000000000 isn't a multiple"),
        ({"tom2_write_back": True}, "tom2_write_back means nothing without tom2"),
        ({"smrr": MtrrRange("4G", "8M", WB)}, "smrr: end 0x100800000 lies beyond the CPU's 32 bits"),
        ({"smrr": MtrrRange(0, "3M", WB)}, "smrr: size 0x300000 isn't a power of two"),
        (
            {"smrr": MtrrRange(0, "8M", WB, register=1)},
            "smrr has a base, a size and a type, and nothing else",
        ),
    ],
)
def test_what_no_cpu_can_hold_of_them(extra: dict[str, Any], why: str) -> None:
    with pytest.raises(LayoutError, match=f"^layout 'x': {re.escape(why)}"):
        validate(Layout("x", default=UC, **extra), physical_bits=40)


@pytest.mark.parametrize("extra", [{"tom2": "8G"}, {"smrr": MtrrRange("248M", "8M", WB)}])
def test_what_no_guest_has_is_not_booted(extra: dict[str, Any]) -> None:
    (key,) = extra
    with pytest.raises(
        LayoutError, match=rf"^layout 'x': {key} can't be given to a guest: QEMU's CPUs have no "
    ):
        check_bootable(Layout("x", default=UC, **extra))
    with pytest.raises(LayoutError, match="has no default type"):
        validate(Layout("x", **extra), physical_bits=40)
