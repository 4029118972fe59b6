"""Layouts that guests print come back: from ``/proc/mtrr``, and from the log with ``mtrr=debug``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from memtype_support.effort import effort

from pytest_memtype import Hardware, Layout, MemType, MtrrRange
from pytest_memtype.dumps.read import read
from pytest_memtype.explain.imported_layout import layout_of
from pytest_memtype.guest.guest import Guest
from pytest_memtype.host.progress import silent
from pytest_memtype.kernels.bundle import bundle
from pytest_memtype.machine.layout import FIRMWARE_FIXED, FIRMWARE_RANGES
from pytest_memtype.machine.layout_file import layout_files, load_layout
from pytest_memtype.run.boot import GuestPlan, booted

UC, WC, WT, WP, WB = MemType.UC, MemType.WC, MemType.WT, MemType.WP, MemType.WB
MEMORY = "256M"
PHYSICAL_BITS = 40

SERIES = ("debian:bullseye", "debian:bookworm", "debian:trixie", "debian:trixie-backports")
#: Those that know mtrr=debug (6.5 and later).
DEBUG_SERIES = SERIES[2:]

#: Beside the named layouts, what machines and mails have: eight ranges, holes, another default.
OTHERS = (
    Layout(
        "surface-go",
        default=WB,
        ranges=[
            MtrrRange(base, size, UC)
            for base, size in (
                (0xC0000000, "1G"),
                (0xA0000000, "512M"),
                (0x90000000, "256M"),
                (0x8E000000, "32M"),
                (0x8D800000, "8M"),
            )
        ],
    ),
    Layout(
        "openssd",
        default=UC,
        ranges=[
            *(
                MtrrRange(base, size, WB)
                for base, size in (
                    (0, "8G"),
                    (0x200000000, "4G"),
                    (0x300000000, "256M"),
                    (0x310000000, "128M"),
                    (0x318000000, "64M"),
                    (0x31C000000, "32M"),
                    (0x31E000000, "16M"),
                )
            ),
            MtrrRange(0xE0000000, "512M", UC),
        ],
    ),
    Layout("hole", default=UC, ranges=[MtrrRange(0, "4G", WB), MtrrRange(0xC0000000, "1G", UC)]),
    Layout(
        "amd",
        default=UC,
        ranges=[MtrrRange(0, "2G", WB), MtrrRange(0x80000000, "256M", WB), MtrrRange(0x8F800000, "8M", UC)],
    ),
    Layout(
        "kilobytes",
        default=UC,
        ranges=[MtrrRange(0, "256M", WB), MtrrRange(0xFD000000, "64K", WC, register=5)],
    ),
)


def all_layouts() -> list[Layout]:
    named = [each.layout for each in layout_files() if isinstance(each.layout, Layout)]
    return [*named, *OTHERS]


@pytest.fixture
def to_be_closed() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def started(kernel: str, layout: Layout, stack: ExitStack, logs: Path, cmdline: str = "") -> Guest:
    made = bundle(kernel, progress=silent)
    guest = booted(
        GuestPlan(made.image, made.initramfs, layout, Hardware(memory=MEMORY, cmdline=cmdline)), logs=logs
    )
    stack.callback(guest.machine.close)
    return guest


def held_by(layout: Layout) -> dict[int, tuple[int, int, MemType, int]]:
    """The range in each register, worked out from the layout's meaning."""
    ranges = FIRMWARE_RANGES if layout.default is None else layout.ranges
    named = {each.register: each for each in ranges if each.register is not None}
    free = iter(number for number in range(8) if number not in named)
    found = named | {next(free): each for each in ranges if each.register is None}
    return {number: (each.base, each.size, each.memtype, each.ignored_bits) for number, each in found.items()}


def without_bits(layout: Layout) -> dict[int, tuple[int, int, MemType, int]]:
    return {number: value for number, value in held_by(layout).items() if not value[3]}


QUICK_LISTS = ("firmware", "discontinuous-mask", "kilobytes", "openssd")


# Each layout moves the guest to another QEMU, which takes half a second on an idle host.
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kernel", effort(quick=SERIES[:1], long=SERIES))
def test_proc_mtrr(kernel: str, to_be_closed: ExitStack, tmp_path: Path) -> None:
    guest = started(kernel, load_layout("firmware"), to_be_closed, tmp_path / "guest")
    # The firmware's first: it sets no register that another has set.
    tried = [each for each in all_layouts() if effort(quick=each.name in QUICK_LISTS, long=True)]
    assert {each.name for each in tried} >= set(QUICK_LISTS)
    for layout in sorted(tried, key=lambda each: each.default is not None):
        if layout.default is not None:
            guest.change_registers(replace_others(layout))
        listed = guest.shell("cat /proc/mtrr").output
        if not held_by(layout):
            # A file without a line says nothing.
            assert listed == ""
            continue
        imported = layout_of(read(listed))
        # A mask with holes comes back too, from the size that Linux makes of it; and it is said.
        assert held_by(imported.layout) == held_by(layout), layout.name
        for word in ("default type", "fixed ranges"):
            assert any(word in note for note in imported.notes), (layout.name, word)
        holes = [each for each in layout.ranges if each.ignored_bits]
        assert len([note for note in imported.notes if "holes" in note]) == len(holes)


def replace_others(layout: Layout) -> Layout:
    # One CPU: what the others hold is nobody's.
    return replace_layout(layout, other_cpus=None)


def replace_layout(layout: Layout, **changes: object) -> Layout:
    values = {
        name: getattr(layout, name)
        for name in (
            "default",
            "ranges",
            "fixed",
            "enabled",
            "fixed_enabled",
            "tom2",
            "tom2_write_back",
            "smrr",
            "other_cpus",
        )
    }
    return Layout(layout.name, **{**values, **changes})


WIDTH_UNKNOWN = "the machine's addresses have at least 32 bits; the text doesn't say how many: 36 are taken"
QUICK_LOGS = ("discontinuous-mask", "fixed-ranges-off")


@pytest.mark.parametrize("kernel", effort(quick=DEBUG_SERIES[-1:], long=DEBUG_SERIES))
@pytest.mark.parametrize(
    "layout",
    [each for each in all_layouts() if effort(quick=each.name in QUICK_LOGS, long=True)],
    ids=lambda each: each.name,
)
def test_log_with_debug(kernel: str, layout: Layout, to_be_closed: ExitStack, tmp_path: Path) -> None:
    guest = started(kernel, replace_others(layout), to_be_closed, tmp_path / "guest", "mtrr=debug")
    imported = layout_of(read(guest.shell("dmesg").output))
    assert held_by(imported.layout) == held_by(layout)
    default = WB if layout.default is None else layout.default
    assert imported.layout.default is default
    assert imported.layout.enabled is layout.enabled
    assert imported.layout.fixed == (FIRMWARE_FIXED if layout.fixed is None else layout.fixed)
    # Of MTRRs that are off the log doesn't say whether the fixed ones would be on.
    if layout.enabled:
        assert imported.layout.fixed_enabled is layout.fixed_enabled
        # The width is in the masks alone, and no register has one.
        assert imported.notes == (() if layout.ranges else (WIDTH_UNKNOWN,))
    if layout.ranges:
        assert imported.physical_bits == PHYSICAL_BITS
