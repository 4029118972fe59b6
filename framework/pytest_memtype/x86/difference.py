"""Where the MTRRs of two CPUs say different things: by what they mean, and not by how it is written.

Registers may differ without effect: pairs that aren't valid, reserved bits, base bits that the mask leaves
out, another order, ranges that are split otherwise, fixed ranges that are off.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import FIXED_END, DecodedMtrrs, MtrrState, decode, memory_type_at, precedence

_PAGE: Final = 1 << 12

#: Questions asked before it is given up. Sound registers need some hundreds; masks with holes that were made
#: for it could take two to the power of the registers for each address bit.
_MOST: Final = 1 << 14

#: (base, mask, type) of what one CPU has, with its number: 0 or 1.
_Range: TypeAlias = tuple[int, int, MemType, int]


class Undecided(ValueError):
    """The registers of two CPUs are written differently, and it would take too long to say what they mean."""


def first_difference(one: MtrrState, other: MtrrState, *, physical_bits: int) -> int | None:
    """The lowest address for which two CPUs have different MTRR types; None when there is none.

    Address bit by address bit, from the highest on, with the registers that still match: what was asked once
    of a set of registers isn't asked again. SMRR and AMD's registers are left out.

    :param one: The registers of one CPU.
    :param other: The registers of the other.
    :param physical_bits: MAXPHYADDR, in bits; addresses above aren't looked at.
    :raises Undecided: See there.
    :raises ValueError: See :func:`pytest_memtype.x86.mtrr.decode`.
    """
    for address in range(0, FIXED_END, _PAGE):
        if memory_type_at(one, address) is not memory_type_at(other, address):
            return address
    both = decode(one), decode(other)
    limit = (1 << physical_bits) - _PAGE
    # The same registers on both CPUs need no look at addresses at all.
    sets = [
        frozenset((each.base & each.mask & limit, each.mask & limit, each.memtype) for each in every.variable)
        for every in both
    ]
    if all(each.enabled for each in both) and both[0].default is both[1].default and sets[0] == sets[1]:
        return None
    ranges = tuple(
        (base, mask, memtype, number)
        for number, (every, ranges) in enumerate(zip(both, sets, strict=True))
        if every.enabled
        for base, mask, memtype in sorted(ranges)
    )
    return _search(ranges, both, physical_bits - 1, 0, (1 << len(ranges)) - 1, set())


def _search(
    ranges: tuple[_Range, ...],
    both: tuple[DecodedMtrrs, DecodedMtrrs],
    bit: int,
    address: int,
    matching: int,
    alike: set[tuple[int, int]],
) -> int | None:
    """The lowest address, from ``FIXED_END`` on, that begins with the bits decided and whose types differ.

    :param ranges: The ranges of both CPUs.
    :param both: All that the registers of each mean.
    :param bit: Number of the bit to decide next; 0 is the lowest.
    :param address: The bits decided; the others are 0.
    :param matching: A bit for each range, 1 for those that the bits decided don't rule out.
    :param alike: (bit, registers matching) known to have no difference below.
    """
    end = address + (2 << bit)
    if end <= FIXED_END or (bit, matching) in alike:
        return None
    below = (2 << bit) - 1
    undecided = any(mask & below for number, (_, mask, _, _) in enumerate(ranges) if matching >> number & 1)
    # The registers' answer is the block's, but for the part below 1 MiB.
    if not undecided or bit < _PAGE.bit_length() - 1:
        return None if _same(ranges, both, matching) else max(address, FIXED_END)
    if len(alike) >= _MOST:
        raise Undecided("the MTRRs are written differently, with masks too full of holes to compare them")
    for value in (0, 1 << bit):
        still = matching
        for number, (base, mask, _, _) in enumerate(ranges):
            if mask >> bit & 1 and (base ^ value) >> bit & 1:
                still &= ~(1 << number)
        found = _search(ranges, both, bit - 1, address | value, still, alike)
        if found is not None:
            return found
    if address >= FIXED_END:
        alike.add((bit, matching))
    return None


def _same(ranges: tuple[_Range, ...], both: tuple[DecodedMtrrs, DecodedMtrrs], matching: int) -> bool:
    types = []
    for cpu, mtrrs in enumerate(both):
        found = frozenset(
            memtype
            for number, (_, _, memtype, whose) in enumerate(ranges)
            if matching >> number & 1 and whose == cpu
        )
        types.append(precedence(found, mtrrs.default) if mtrrs.enabled else MemType.UC)
    return types[0] is types[1]
