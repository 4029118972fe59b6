"""QEMU's own account of a guest's memory, ``info mtree -f``: who owns what."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from pytest_memtype.errors import UsageError, harmless
from pytest_memtype.machine.memory_map import Kind, Owner
from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal
from pytest_memtype.x86.mtrr import FIXED_END

# QEMU 7.2 (softmmu/memory.c, mtree_print_flatview); with KVM or Xen a line may end in their name.
_LINE: Final = re.compile(
    r"  ([0-9a-f]{16})-([0-9a-f]{16}) \(prio -?\d+, ([\w/]+)\): (.*?)(?: @([0-9a-f]{16}))?(?: KVM)?$"
)
_CPU: Final = ' AS "cpu-memory-0"'
_CHIPSET: Final = re.compile(r"ioapic|hpet|apic|mmcfg|rcrb|tpm|fwcfg")
_ISA_HOLE: Final = 0xA0000
_OPTION_ROMS: Final = 0xC0000


@shown_in_hexadecimal("start", "end")
@dataclass(frozen=True)
class _Region:
    start: int
    end: int
    kind: str
    name: str


def owners_in_tree(text: str, *, backends: Collection[str] = ()) -> tuple[Owner, ...]:
    """The owners of a guest's memory, ascending by address, as the first CPU sees it.

    :param text: The output of ``info mtree -f``.
    :param backends: Names of memory backends (``query-memdev``): their regions are RAM too, such as that of a
        DIMM that was plugged in.
    :raises UsageError: the text names no memory of a CPU.
    """
    found = _regions(text)
    # What lies behind the first MiB is the machine's RAM.
    names = {each.name for each in found if each.start <= FIXED_END < each.end and each.kind == "ram"}
    names |= set(map(harmless, backends))
    return tuple(owner for each in found for owner in _owners(each, names))


def _regions(text: str) -> list[_Region]:
    views = [part for part in text.replace("\r", "").split("FlatView #") if _CPU in part]
    matches = [_LINE.match(line) for line in views[0].splitlines()] if views else []
    found = [
        _Region(int(match[1], 16), int(match[2], 16) + 1, match[3], harmless(match[4]))
        for match in matches
        if match
    ]
    if not found:
        raise UsageError("QEMU's memory tree has no memory of a CPU; is this a PC?")
    return found


def _owners(region: _Region, names: Collection[str]) -> list[Owner]:
    ram = region.kind in ("ram", "rom") and region.name in names
    if not ram:
        kind = Kind.CHIPSET if _CHIPSET.search(region.name) else Kind.BAR
        return [Owner(region.start, region.end, Kind.FIRMWARE if region.kind == "rom" else kind, region.name)]
    # RAM below 1 MiB isn't all the system's: behind the VGA window is SMRAM, then come ROMs' copies.
    borders = [
        region.start,
        *(each for each in (_ISA_HOLE, _OPTION_ROMS, FIXED_END) if region.start < each < region.end),
        region.end,
    ]
    return [_ram(start, end, region.name) for start, end in itertools.pairwise(borders) if start < end]


def _ram(start: int, end: int, name: str) -> Owner:
    if start >= FIXED_END or start < _ISA_HOLE:
        return Owner(start, end, Kind.RAM, name)
    if start < _OPTION_ROMS:
        return Owner(start, end, Kind.ISA_HOLE, "VGA window; SMRAM behind it")
    return Owner(start, end, Kind.FIRMWARE, "ROMs, shadowed in RAM")
