"""RAM that Linux gives up because no MTRR makes it write-back, and the start of guests with such RAM.

Linux counts what the variable ranges cover and marks other RAM as reserved ("MTRRs don't cover all of
memory", mtrr_trim_uncached_memory(), arch/x86/kernel/cpu/mtrr/cleanup.c; seen with 5.10 to 7.3). That
is long after address randomisation has chosen a place for the kernel, from all RAM that the firmware reports
(arch/x86/boot/compressed/kaslr.c knows nothing of MTRRs). A kernel that lies in what it then gives up dies
before it has a console.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from pytest_memtype.errors import LayoutError
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.layout import Layout, validate
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import MtrrRange
from pytest_memtype.x86.size import format_size

Extent = tuple[int, int]
"""Physical addresses from the first up to, without, the second."""

_LEGACY = (0xA0000, 1 << 20)
_NOT_RANDOM = "nokaslr"
_KEEP = "disable_mtrr_trim"


def given_up(layout: Layout, hardware: Hardware) -> tuple[Extent, ...]:
    """The RAM that Linux gives up under a layout, ascending; none if the MTRRs can't express the layout."""
    if layout.default is not MemType.UC or _KEEP in hardware.cmdline.split():
        return ()
    if {"-mtrr", "mtrr=off"} & set(hardware.cpu.split(",")):
        return ()
    try:
        validate(layout, physical_bits=hardware.physical_bits)
    except LayoutError:
        return ()
    types = {each.memtype for each in layout.ranges}
    # With any other type Linux gives up nothing.
    if MemType.WB not in types or types - {MemType.WB, MemType.UC}:
        return ()
    covered = _joined(_extent(each.base, each.size + each.ignored_bits) for each in _of(layout, MemType.WB))
    for each in _of(layout, MemType.UC):
        start, end = _extent(each.base, each.size + each.ignored_bits)
        if layout.fixed_enabled:
            # The fixed ranges decide there.
            start = max(start, 1 << 20)
        covered = _without(covered, [(start, end)])
    ram = [(each.start, each.start + each.size) for each in hardware.ram]
    return tuple(_without(_without(ram, [_LEGACY]), covered))


def as_started(layout: Layout, hardware: Hardware) -> Hardware:
    """The hardware that a guest with a layout is started with.

    Address randomisation is switched off where it may put the kernel into RAM that the kernel then gives up.
    """
    if not given_up(layout, hardware) or _NOT_RANDOM in hardware.cmdline.split():
        return hardware
    return dataclasses.replace(hardware, cmdline=f"{hardware.cmdline} {_NOT_RANDOM}".strip())


def uncovered_ram(layout: Layout, hardware: Hardware) -> str:
    """The line that says which RAM Linux gives up under a layout; empty if it gives up none."""
    lost = given_up(layout, hardware)
    if not lost:
        return ""
    size = format_size(sum(end - start for start, end in lost))
    where = ", ".join(f"{start:x}-{end - 1:x}" for start, end in lost)
    line = f"layout {layout.name!r} leaves {size} of RAM without write-back ({where}), which Linux gives up"
    if as_started(layout, hardware) != hardware:
        line += f"; {_NOT_RANDOM} is added, so that the kernel isn't put there"
    return line


def _of(layout: Layout, memtype: MemType) -> list[MtrrRange]:
    return [each for each in layout.ranges if each.memtype is memtype]


def _extent(start: int, size: int) -> Extent:
    return start, start + size


def _joined(extents: Iterable[Extent]) -> list[Extent]:
    joined: list[Extent] = []
    for start, end in sorted(extents):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined


def _without(extents: Iterable[Extent], taken: Iterable[Extent]) -> list[Extent]:
    left = list(extents)
    for start, end in taken:
        left = [
            piece
            for first, last in left
            for piece in ((first, min(last, start)), (max(first, end), last))
            if piece[0] < piece[1]
        ]
    return left
