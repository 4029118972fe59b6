"""Ranges that a guest's variable MTRRs have room for: fewer that say the same, then without the least."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.layout import VARIABLE_REGISTERS
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import MtrrRange, precedence

_4G: Final = 1 << 32
_MOST_BITS: Final = 52
#: Of more ranges no way to round up is looked for: it takes time in proportion to their third power.
_MOST_ROUNDED: Final = 32


def few_enough(
    ranges: list[MtrrRange], default: MemType, hardware: Hardware, notes: list[str]
) -> list[MtrrRange]:
    """As many ranges as a guest has registers.

    :param ranges: The ranges.
    :param default: The default type.
    :param hardware: The guest's.
    :param notes: Sentences on what was changed, which are added to.
    """
    if len(ranges) <= VARIABLE_REGISTERS:
        return ranges
    count = len(ranges)
    ranges = _joined(ranges, default)
    if len(ranges) > VARIABLE_REGISTERS and default is MemType.UC:
        ranges = _rounded(ranges, 1 << hardware.physical_bits)
    notes.append(
        f"the machine has {count} ranges, a guest's CPU {VARIABLE_REGISTERS} variable MTRRs: "
        f"{len(ranges)} are left when those are joined that can be"
    )
    end = hardware.ram[-1].start + hardware.ram[-1].size
    while len(ranges) > VARIABLE_REGISTERS:
        # RAM that the guest hasn't got is missed least, then what is smallest.
        least = min(
            ranges,
            key=lambda each: (each.base < end or each.base < _4G, each.memtype is not MemType.WB, each.size),
        )
        ranges = _without(ranges, least, default)
        notes.append(f"{least} is left out: there are too many for a guest's registers")
    return [replace(each, register=None) for each in ranges]


def _without(ranges: list[MtrrRange], gone: MtrrRange, default: MemType) -> list[MtrrRange]:
    """The ranges without one, and without those in it that say nothing any more."""
    left = [each for each in ranges if each is not gone]
    for each in list(left):
        rest = [other for other in left if other is not each]
        inside = gone.base <= each.base < gone.base + gone.size
        if inside and not each.ignored_bits and _same(left, rest, default, each.base, each.base + each.size):
            left = rest
    return left


def _rounded(ranges: list[MtrrRange], end: int) -> list[MtrrRange]:
    """Fewer ranges over an uncached default: write-back ones that are too long, uncached ones over the rest.

    :param ranges: The ranges.
    :param end: Where the addresses end.
    """
    if len(ranges) > _MOST_ROUNDED:
        return ranges
    tried = [ranges]
    for start, stop in _write_back(ranges):
        others = [each for each in ranges if not (each.memtype is MemType.WB and start <= each.base < stop)]
        for longer in _rounded_up(stop, end):
            pieces = [MtrrRange(base, size, MemType.WB) for base, size in split(start, longer)]
            pieces += [MtrrRange(base, size, MemType.UC) for base, size in split(stop, longer)]
            if _same(ranges, [*others, *pieces], MemType.UC, start, longer):
                tried.append([*others, *pieces])
    fewest = min(tried, key=len)
    return ranges if len(fewest) == len(ranges) else _rounded(fewest, end)


def _rounded_up(address: int, end: int) -> Iterator[int]:
    """Larger addresses, each a multiple of a larger power of two."""
    for shift in range((address & -address).bit_length(), _MOST_BITS):
        longer = -(-address >> shift) << shift
        if longer > end:
            return
        yield longer


def _write_back(ranges: list[MtrrRange]) -> list[tuple[int, int]]:
    """Where write-back ranges begin and end that lie one behind the other."""
    found: list[tuple[int, int]] = []
    for each in sorted(ranges, key=lambda each: each.base):
        if each.memtype is not MemType.WB or each.ignored_bits:
            continue
        if found and found[-1][1] == each.base:
            found[-1] = found[-1][0], each.base + each.size
        else:
            found.append((each.base, each.base + each.size))
    return found


def _joined(ranges: list[MtrrRange], default: MemType) -> list[MtrrRange]:
    """Fewer ranges that give every address the same type."""
    found = list(ranges)
    changed = True
    while changed:
        changed = False
        for each in list(found):
            others = [other for other in found if other is not each]
            if not each.ignored_bits and _same(found, others, default, each.base, each.base + each.size):
                found, changed = others, True
                break
            for other in others:
                joined = _pair(each, other)
                if joined is not None:
                    rest = [third for third in others if third is not other]
                    found, changed = [*rest, joined], True
                    break
            if changed:
                break
    return sorted(found, key=lambda each: each.base)


def _pair(one: MtrrRange, two: MtrrRange) -> MtrrRange | None:
    """Two neighbours of one type and size that are one range of twice the size."""
    if one.memtype is not two.memtype or one.size != two.size or one.ignored_bits or two.ignored_bits:
        return None
    base = min(one.base, two.base)
    if base % (2 * one.size) or abs(one.base - two.base) != one.size:
        return None
    return MtrrRange(base, 2 * one.size, one.memtype)


def _same(before: list[MtrrRange], after: list[MtrrRange], default: MemType, start: int, stop: int) -> bool:
    """Whether every address from one up to another has the type that it had."""
    edges = {start}
    for each in (*before, *after):
        if each.ignored_bits:
            return False
        edges |= {edge for edge in (each.base, each.base + each.size) if start < edge < stop}
    return all(_type_at(before, default, edge) == _type_at(after, default, edge) for edge in edges)


def _type_at(ranges: list[MtrrRange], default: MemType, address: int) -> object:
    types = frozenset(each.memtype for each in ranges if each.base <= address < each.base + each.size)
    return precedence(types, default)


def split(start: int, end: int) -> list[tuple[int, int]]:
    """Bases and sizes of naturally aligned powers of two that make up a range.

    :param start: First address.
    :param end: The address behind the last.
    """
    found = []
    while start < end:
        size = min(start & -start if start else 1 << _MOST_BITS, 1 << ((end - start).bit_length() - 1))
        found.append((start, size))
        start += size
    return found
