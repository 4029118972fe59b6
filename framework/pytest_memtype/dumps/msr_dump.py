"""Registers as numbers: the MSRs that chipsec, rdmsr and others print."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from pytest_memtype.dumps.facts import Mtrrs, Register, Span
from pytest_memtype.dumps.text import Cursor
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import (
    DEFAULT_TYPE,
    ENABLE,
    FIXED_ENABLE,
    FIXED_MSRS,
    MTRR_TYPES,
    VALID,
    decode_fixed,
)

# chipsec's "RDMSR( 0x200 ) = ...", its register listings, msr-tools' "rdmsr 0x200" and what follows.
_MSR: Final = re.compile(
    r"\b(?:rd)?msr\b[ \t(:\[]{0,4}(?:0x)?(?P<msr>2[0-9a-f]{2}|c001001d|c0010010|1f[23]|0?fe)\b\W{1,6}(?:"
    r"(?:value|is)\W{1,3})?"
    r"(?:0x)?(?P<value>[0-9a-f]{1,16})\b(?:`(?P<low>[0-9a-f]{8})\b)?",
    re.I,
)
_NAMED: Final = re.compile(
    r"\b(?:IA32_|MSR_)?MTRR_?(?P<name>PHYS_?BASE|PHYS_?MASK|DEF_?TYPE|CAP)_?(?P<number>\d{1,2})?\b\W{1,6}"
    r"(?:0x)?(?P<value>[0-9a-f]{1,16})\b",
    re.I,
)


@dataclass
class _Registers:
    """MSRs by number, and where they were."""

    source: str
    values: dict[int, int] = field(default_factory=dict)
    lines: list[int] = field(default_factory=list)


def msr_dump(cursor: Cursor) -> list[Mtrrs]:
    """The listings of chipsec, rdmsr and their like in a text."""
    found = _Registers("MSRs")
    understood: list[int] = []
    for index, row in enumerate(cursor.rows):
        lowered = row.message.lower()
        if "msr" not in lowered and "mtrr" not in lowered:
            continue
        match = _MSR.search(row.message)
        named = None if match else _NAMED.search(row.message)
        if match is not None:
            number = int(match["msr"], 16)
            value = int(match["value"] + (match["low"] or ""), 16)
        elif named is not None and (named["name"].upper()[:4] != "PHYS") == (named["number"] is None):
            number, value = _number(named), int(named["value"], 16)
        else:
            continue
        if "chipsec" in lowered or "[cpu" in lowered:
            found.source = "chipsec"
        if not _can_hold(number, value):
            continue
        # Of several CPUs the first, which is the boot CPU as a rule.
        found.values.setdefault(number, value)
        understood.append(index)
    if len(found.values) < 2 or not {0x200, DEFAULT_TYPE} & set(found.values):
        return []
    found.lines += [number for index in understood for number in cursor.use(index)]
    return [_of_values(found)]


def _can_hold(msr: int, value: int) -> bool:
    """Whether a register can hold a value: behind the same names C sources have the registers' numbers.

    Intel SDM vol. 3, figures of IA32_MTRR_DEF_TYPE and of IA32_MTRR_PHYSBASEn and PHYSMASKn: writing to a
    reserved bit is a #GP, so that no register shows one.
    """
    if msr == DEFAULT_TYPE:
        return value & ~(0xFF | FIXED_ENABLE | ENABLE) == 0 and value & 0xFF in MTRR_TYPES
    if 0x200 <= msr < FIXED_MSRS[0]:
        return not value & (0x7FF if msr % 2 else 0xF00)
    return value != msr


def _number(match: re.Match[str]) -> int:
    name = match["name"].upper().replace("_", "")
    if name == "DEFTYPE":
        return DEFAULT_TYPE
    if name == "CAP":
        return 0xFE
    return 0x200 + 2 * int(match["number"]) + (name == "PHYSMASK")


def _of_values(found: _Registers) -> Mtrrs:
    values = found.values
    variable, unused, top = [], [], 0
    for number in range(32):
        base, mask = values.get(0x200 + 2 * number), values.get(0x201 + 2 * number)
        if base is None or mask is None or 0x200 + 2 * number >= FIXED_MSRS[0]:
            continue
        if not mask & VALID:
            unused.append(number)
            continue
        top = max(top, mask.bit_length())
        variable.append(Register(number, base & ~0xFFF, memtype_of(base & 0xFF), mask=mask & ~0xFFF))
    default = values.get(DEFAULT_TYPE)
    return Mtrrs(
        found.source,
        variable=tuple(variable),
        unused=tuple(unused),
        default=None if default is None else memtype_of(default & 0xFF),
        enabled=None if default is None else bool(default & ENABLE),
        fixed_enabled=None if default is None else bool(default & FIXED_ENABLE),
        fixed=fixed_ranges(values),
        mask_bits=top or None,
        # The one half of a register without the other.
        complete=all((msr in values) == (msr + 1 in values) for msr in range(0x200, FIXED_MSRS[0], 2)),
        lines=tuple(found.lines),
    )


def memtype_of(encoding: int) -> MemType | None:
    """The type that a register has a number for; None for a number that is none."""
    try:
        return MemType(encoding)
    except ValueError:
        return None


def fixed_ranges(values: dict[int, int], *, dram_bits: bool = False) -> tuple[tuple[Span, MemType], ...]:
    """The fixed ranges that registers hold, neighbours of one type as one; empty if they can't be.

    :param values: The registers that are known, by number; of the others there are no ranges.
    :param dram_bits: Whether AMD's RdMem and WrMem may be in them, as coreboot writes them.
    """
    try:
        ranges = decode_fixed(tuple(values.get(msr, 0) for msr in FIXED_MSRS), dram_bits=dram_bits)
    except ValueError:
        return ()
    found: list[tuple[Span, MemType]] = []
    # Each register holds eight of them.
    for index, each in enumerate(ranges):
        if FIXED_MSRS[index // 8] not in values:
            continue
        if found and found[-1][1] is each.memtype and found[-1][0].end + 1 == each.base:
            found[-1] = Span(found[-1][0].start, each.base + each.size - 1), each.memtype
        else:
            found.append((Span(each.base, each.base + each.size - 1), each.memtype))
    return tuple(found)
