"""Registers as numbers: coreboot's log, and the MSRs that chipsec, rdmsr and others print."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from pytest_memtype.dumps.facts import Mtrrs, Register, Span
from pytest_memtype.dumps.text import Cursor
from pytest_memtype.dumps.words import type_of_word
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import (
    DEFAULT_TYPE,
    ENABLE,
    FIXED_ENABLE,
    FIXED_MSRS,
    VALID,
    MtrrRange,
    decode_fixed,
)
from pytest_memtype.x86.size import UNITS

# src/cpu/x86/mtrr/mtrr.c of coreboot: the first since 4.0, the second before ("set_var_mtrr").
_COREBOOT: Final = re.compile(
    r"\bMTRR: (?P<number>\d{1,3}) base 0x(?P<base>[0-9a-f]{1,16}) mask 0x(?P<mask>[0-9a-f]{1,16}) type "
    r"(?P<type>\d{1,2})\b"
)
_COREBOOT_OLD: Final = re.compile(
    r"\bSetting variable MTRR (?P<number>\d{1,3}), base: *(?P<base>\d{1,9})MB, range: *(?P<size>\d{1,9})"
    r"(?P<unit>[KM])B,"
    r" type (?P<type>WB|UC|WC|WT|WP)\b"
)
_COREBOOT_DEFAULT: Final = re.compile(r"\bMTRR: (?P<type>WB|UC) selected as default type")
_COREBOOT_FIXED: Final = re.compile(r"\bMTRR: Fixed MSR 0x(?P<msr>2[56][0-9a-f]) 0x(?P<value>[0-9a-f]{16})\b")
_COREBOOT_BITS: Final = re.compile(r"\bCPU physical address size: (?P<bits>\d{2}) bits")
_COREBOOT_NOISE: Final = re.compile(
    r"^\W*(?:\[\w+\]\s*)?(?:0x[0-9a-f]{16} - 0x[0-9a-f]{16} size 0x[0-9a-f]{8,16} type \d+|MTRR: Physical "
    r"address space:"
    r"|MTRR: default type WB/UC MTRR counts: |MTRR check|Fixed MTRRs *: \w+|Variable MTRRs *: \w+|call "
    r"enable_fixed_mtrr)"
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
        # Of several CPUs the first, which is the boot CPU as a rule.
        found.values.setdefault(number, value)
        understood.append(index)
    if len(found.values) < 2 or not {0x200, DEFAULT_TYPE} & set(found.values):
        return []
    found.lines += [number for index in understood for number in cursor.use(index)]
    return [_of_values(found)]


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
        variable.append(Register(number, base & ~0xFFF, _memtype(base & 0xFF), mask=mask & ~0xFFF))
    default = values.get(DEFAULT_TYPE)
    registers = [values.get(msr) for msr in FIXED_MSRS]
    return Mtrrs(
        found.source,
        variable=tuple(variable),
        unused=tuple(unused),
        default=None if default is None else _memtype(default & 0xFF),
        enabled=None if default is None else bool(default & ENABLE),
        fixed_enabled=None if default is None else bool(default & FIXED_ENABLE),
        fixed=fixed_ranges([each for each in registers if each is not None]) if None not in registers else (),
        mask_bits=top or None,
        # The one half of a register without the other.
        complete=all((msr in values) == (msr + 1 in values) for msr in range(0x200, FIXED_MSRS[0], 2)),
        lines=tuple(found.lines),
    )


def _memtype(encoding: int) -> MemType | None:
    try:
        return MemType(encoding)
    except ValueError:
        return None


def fixed_ranges(registers: list[int]) -> tuple[tuple[Span, MemType], ...]:
    """The fixed ranges that eleven registers hold, neighbours of one type as one; empty if they can't be."""
    try:
        ranges: tuple[MtrrRange, ...] = decode_fixed(tuple(registers))
    except ValueError:
        return ()
    found: list[tuple[Span, MemType]] = []
    for each in ranges:
        if found and found[-1][1] is each.memtype and found[-1][0].end + 1 == each.base:
            found[-1] = Span(found[-1][0].start, each.base + each.size - 1), each.memtype
        else:
            found.append((Span(each.base, each.base + each.size - 1), each.memtype))
    return tuple(found)


def coreboot(cursor: Cursor) -> list[Mtrrs]:
    """The registers in coreboot's log. It may program them more than once: the last counts."""
    variable: dict[int, Register] = {}
    fixed: dict[int, int] = {}
    default: MemType | None = None
    bits: int | None = None
    understood: list[int] = []
    linux = any("original variable MTRRs" in row.message for row in cursor.rows)
    for index, row in enumerate(cursor.rows):
        message = row.message
        if "MTRR" not in message and "physical address size" not in message and " type " not in message:
            continue
        if match := _COREBOOT.search(message):
            if int(match["number"]) == 0:
                variable.clear()
            memtype = _memtype(int(match["type"]))
            base, mask = int(match["base"], 16), int(match["mask"], 16)
            variable[int(match["number"])] = Register(
                int(match["number"]), base & ~0xFFF, memtype, mask=mask & ~0xFFF, line=row.number
            )
            bits = max(bits or 0, mask.bit_length())
        # Linux' mtrr_cleanup has the same words for what it tries.
        elif not linux and (match := _COREBOOT_OLD.search(message)):
            if int(match["number"]) == 0:
                variable.clear()
            size = int(match["size"]) * UNITS[match["unit"]]
            variable[int(match["number"])] = Register(
                int(match["number"]),
                int(match["base"]) << 20,
                type_of_word(match["type"]),
                size=size,
                line=row.number,
            )
        elif match := _COREBOOT_DEFAULT.search(message):
            default = type_of_word(match["type"])
        elif match := _COREBOOT_FIXED.search(message):
            fixed[int(match["msr"], 16)] = int(match["value"], 16)
        elif not _COREBOOT_BITS.search(message) and not _COREBOOT_NOISE.search(message):
            continue
        understood.append(index)
    registers = [fixed[msr] for msr in FIXED_MSRS if msr in fixed]
    if not variable:
        # Fixed ranges alone, as of a CPU that isn't the first, are no map of the memory.
        return []
    lines = [number for index in understood for number in cursor.use(index)]
    masks = any(each.mask is not None for each in variable.values())
    return [
        Mtrrs(
            "coreboot",
            variable=tuple(variable[number] for number in sorted(variable)),
            default=default,
            enabled=True,
            fixed_enabled=True if fixed else None,
            fixed=fixed_ranges(registers) if len(registers) == len(FIXED_MSRS) else (),
            mask_bits=bits if masks else None,
            lines=tuple(lines),
        )
    ]


def coreboot_bits(cursor: Cursor) -> int | None:
    """The width of physical addresses, of coreboot's line about it."""
    for row in cursor.rows:
        if "physical address size" in row.message and (match := _COREBOOT_BITS.search(row.message)):
            return int(match["bits"])
    return None
