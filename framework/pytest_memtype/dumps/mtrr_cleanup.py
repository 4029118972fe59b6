"""The registers that mtrr_cleanup found and left (arch/x86/kernel/cpu/mtrr/cleanup.c, 2.6.27 and later)."""

from __future__ import annotations

import re
from typing import Final

from pytest_memtype.dumps.facts import Mtrrs, Register
from pytest_memtype.dumps.text import Cursor
from pytest_memtype.dumps.words import type_of_word
from pytest_memtype.x86.size import UNITS

_HEAD: Final = re.compile(r"\b(?P<which>original|New) variable MTRRs\b")
_REGISTER: Final = re.compile(
    r"\breg (?P<number>\d{1,3}), base: (?P<base>\d{1,11})(?P<base_unit>[KMG])B, range: (?P<size>\d{1,11})"
    r"(?P<unit>[KMG])B,"
    r" type (?P<type>UC|WB|WP|Other)\b"
)
_BEGINNING: Final = re.compile(r"\breg \d{1,3}, base: \d")
#: What else it prints: attempts, sums, advice.
_NOISE: Final = re.compile(
    r"\b(?:total RAM covered: \d+M|rangeX?: [0-9a-f]+ - [0-9a-f]+|range0: |hole: |Setting variable MTRR "
    r"\d+, base: \d+[KMG]B"
    r"|MTRR MAP PFN: |After (?:WB|UC) checking|After sorting|please specify mtrr_gran_size/mtrr_chunk_size"
    r"|\*?(?:BAD)?\s*gran_size: \d+[KMG]\s+chunk_size: \d+[KMG]\s+num_reg: \d+)"
)


def mtrr_cleanup(cursor: Cursor) -> list[Mtrrs]:
    """The listings in a text: ``original variable MTRRs``, and the new ones."""
    found: list[tuple[bool, list[Register], list[int]]] = []
    cut: set[int] = set()
    for index, row in enumerate(cursor.rows):
        head = _HEAD.search(row.message) if "variable MTRRs" in row.message else None
        if head is not None:
            found.append((head["which"] == "New", [], list(cursor.use(index))))
            continue
        if _NOISE.search(row.message):
            cursor.use(index)
            continue
        hit = cursor.search(index, _REGISTER) if "reg " in row.message else None
        if hit is None:
            if _BEGINNING.search(row.message):
                # Of the listing that goes on here, or of one that is yet to begin.
                cut.add(len(found) - 1 if found else 0)
            continue
        match, count = hit
        register = Register(
            int(match["number"]),
            int(match["base"]) * UNITS[match["base_unit"]],
            type_of_word(match["type"]),
            size=int(match["size"]) * UNITS[match["unit"]],
            line=row.number,
        )
        if not found or any(each.number >= register.number for each in found[-1][1]):
            found.append((False, [], []))
        found[-1][1].append(register)
        found[-1][2].extend(cursor.use(index, count))
    return [
        Mtrrs(
            "mtrr_cleanup",
            variable=tuple(registers),
            enabled=True,
            result=result,
            complete=number not in cut,
            lines=tuple(lines),
        )
        for number, (result, registers, lines) in enumerate(found)
        if registers
    ]
