"""The registers in coreboot's log (src/cpu/x86/mtrr/mtrr.c), and what it sets for a while only."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from pytest_memtype.dumps.facts import Mtrrs, Register
from pytest_memtype.dumps.msr_dump import fixed_ranges, memtype_of
from pytest_memtype.dumps.text import Cursor, Row
from pytest_memtype.dumps.words import type_of_word
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.size import UNITS

# The first since 4.0, the second before ("range_to_mtrr").
_REGISTER: Final = re.compile(
    r"\bMTRR: (?P<number>\d{1,3}) base 0x(?P<base>[0-9a-f]{1,16}) mask 0x(?P<mask>[0-9a-f]{1,16}) type "
    r"(?P<type>\d{1,2})\b"
)
_OLD: Final = re.compile(
    r"\bSetting variable MTRR (?P<number>\d{1,3}), base: *(?P<base>\d{1,9})MB, range: *(?P<size>\d{1,9})"
    r"(?P<unit>[KM])B,"
    r" type (?P<type>WB|UC|WC|WT|WP)\b"
)
_BEGINNING: Final = re.compile(r"\bMTRR: \d{1,3}(?:\s+b|\s*$)|\bSetting variable MTRR \d")
_HEADING: Final = re.compile(r"\bMTRR: (?P<temporary>TEMPORARY )?Physical address space:")
_COUNTS: Final = re.compile(r"\bMTRR: default type WB/UC MTRR counts: (?P<wb>\d{1,4})/(?P<uc>\d{1,4})\b")
_DEFAULT: Final = re.compile(r"\bMTRR: (?P<type>WB|UC) selected as default type")
_FIXED: Final = re.compile(r"\bMTRR: Fixed MSR 0x(?P<msr>2[56][0-9a-f]) 0x(?P<value>[0-9a-f]{16})\b")
_BITS: Final = re.compile(r"\bCPU physical address size: (?P<bits>\d{2}) bits")
_NOISE: Final = re.compile(
    r"^\W*(?:\[\w+\]\s*)?(?:0x[0-9a-f]{16} - 0x[0-9a-f]{16} size 0x[0-9a-f]{8,16} type \d+"
    r"|MTRR: default type WB/UC MTRR counts: |MTRR check|Fixed MTRRs *: \w+|Variable MTRRs *: \w+|call "
    r"enable_fixed_mtrr)"
)

# What mtrr_cleanup tries it says in coreboot's old words, which it was made of. It says GB as well
# (to_size_factor()), and prints the rest beside it (arch/x86/kernel/cpu/mtrr/cleanup.c, as of 6.1).
_LINUX: Final = re.compile(
    r"\b(?:original|New) variable MTRRs\b|\brange[X0]?: [0-9a-f]{16} - |\bMTRR MAP PFN: "
    r"|\btotal RAM covered: |\bAfter (?:WB|UC) checking"
    r"|\bSetting variable MTRR \d{1,3}, base: \d+(?:GB|MB, range: \d+GB)"
)


@dataclass
class _Listing:
    """The part of one programming of the registers that was read so far."""

    temporary: bool = False
    default: MemType | None = None
    counts: dict[MemType, int] = field(default_factory=dict)
    variable: list[Register] = field(default_factory=list)
    cut: bool = False
    lines: list[int] = field(default_factory=list)

    def is_whole(self) -> bool:
        """Whether all registers are there: coreboot counts them beforehand, and takes them from 0 on."""
        numbers = [each.number for each in self.variable]
        expected = None if self.default is None else self.counts.get(self.default)
        return not self.cut and numbers == list(range(len(numbers))) and expected in (None, len(numbers))


def coreboot(cursor: Cursor) -> list[Mtrrs]:
    """The registers in coreboot's log. It may program them more than once: the last counts.

    What it calls TEMPORARY doesn't: remove_temp_solution() puts back what mtrr_use_temp_range() replaced when
    the payload begins or an OS resumes, and prints nothing. It is given where there is no other, with
    ``result`` false.
    """
    linux = any(_LINUX.search(row.message) for row in cursor.rows if _may_be(row))
    fixed: dict[int, int] = {}
    found = [_Listing()]
    used: list[int] = []
    for index, row in enumerate(cursor.rows):
        if not _may_be(row):
            continue
        if match := _FIXED.search(row.message):
            fixed[int(match["msr"], 16)] = int(match["value"], 16)
        elif not _take(found, row, linux=linux or row.time is not None) and not (
            _BITS.search(row.message) or _NOISE.search(row.message)
        ):
            continue
        used.append(index)
        found[-1].lines.append(row.number)
    # Of equal ones max() takes the first.
    last = max(reversed(found), key=lambda each: (bool(each.variable), not each.temporary))
    if not last.variable:
        # Fixed ranges alone, as of a CPU that isn't the first, are no map of the memory.
        return []
    for index in used:
        cursor.use(index)
    masks = [each.mask for each in last.variable if each.mask is not None]
    return [
        Mtrrs(
            "coreboot",
            variable=tuple(last.variable),
            default=last.default,
            enabled=True,
            fixed_enabled=True if fixed else None,
            fixed=fixed_ranges(fixed, dram_bits=True),
            mask_bits=max(masks).bit_length() if masks else None,
            result=not last.temporary,
            complete=last.is_whole(),
            lines=tuple(last.lines),
        )
    ]


def _may_be(row: Row) -> bool:
    words = ("MTRR", "physical address size", " type ", "range", "RAM covered", " checking")
    return any(word in row.message for word in words)


def _take(found: list[_Listing], row: Row, *, linux: bool) -> bool:
    """Take a line into the last listing, or begin another with it; whether it is one of coreboot's."""
    if match := _HEADING.search(row.message):
        found.append(_Listing(temporary=match["temporary"] is not None))
    elif match := _COUNTS.search(row.message):
        found[-1].counts = {MemType.WB: int(match["wb"]), MemType.UC: int(match["uc"])}
    elif match := _DEFAULT.search(row.message):
        found[-1].default = type_of_word(match["type"])
    elif register := _register(row, linux=linux):
        if register.number == 0 and found[-1].variable:
            found.append(_Listing(default=found[-1].default, counts=found[-1].counts))
        found[-1].variable.append(register)
    elif not linux and _BEGINNING.search(row.message):
        found[-1].cut = True
        return False
    else:
        return False
    return True


def _register(row: Row, *, linux: bool) -> Register | None:
    if match := _REGISTER.search(row.message):
        return Register(
            int(match["number"]),
            int(match["base"], 16) & ~0xFFF,
            memtype_of(int(match["type"])),
            mask=int(match["mask"], 16) & ~0xFFF,
            line=row.number,
        )
    match = None if linux else _OLD.search(row.message)
    if match is None:
        return None
    return Register(
        int(match["number"]),
        int(match["base"]) << 20,
        type_of_word(match["type"]),
        size=int(match["size"]) * UNITS[match["unit"]],
        line=row.number,
    )


def coreboot_bits(cursor: Cursor) -> int | None:
    """The width of physical addresses, of coreboot's line about it."""
    for row in cursor.rows:
        if "physical address size" in row.message and (match := _BITS.search(row.message)):
            return int(match["bits"])
    return None
