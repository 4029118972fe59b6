"""The firmware test suite's "MTRR overview" (fwts, src/cpu/mtrr/mtrr.c)."""

from __future__ import annotations

import re
from typing import Final

from pytest_memtype.dumps.facts import Mtrrs, Register
from pytest_memtype.dumps.text import Cursor
from pytest_memtype.dumps.words import type_of_word

_REGISTER: Final = re.compile(
    r"\bReg (?P<number>\d{1,3}): 0x(?P<start>[0-9a-f]{1,16}) - 0x(?P<end>[0-9a-f]{1,16}) \(\s*\d+ [KM]B\)\s+"
    r"(?P<type>Uncached|Write-(?:Combining|Through|Protect|Back))"
)
_BEGINNING: Final = re.compile(r"\bReg \d{1,3}: 0x[0-9a-f]")
_UNUSED: Final = re.compile(r"\bReg (?P<number>\d{1,3}): disabled")


def fwts(cursor: Cursor) -> list[Mtrrs]:
    """The listings in a text; their ends are exclusive."""
    variable: list[Register] = []
    unused: list[int] = []
    lines: list[int] = []
    cut: list[int] = []
    found = []
    headings: list[int] = []
    for index, row in enumerate(cursor.rows):
        if "MTRR overview" in row.message or "MTRR validation" in row.message:
            headings.append(index)
            if lines:
                found.append(_facts(variable, unused, lines, cut))
                variable, unused, lines, cut = [], [], [], []
        if "Reg " not in row.message:
            continue
        hit = cursor.search(index, _REGISTER, _UNUSED)
        if hit is None:
            cut += [row.number] if _BEGINNING.search(row.message) else []
            continue
        match, count = hit
        lines += cursor.use(index, count)
        number = int(match["number"])
        if match.re is _UNUSED:
            unused.append(number)
            continue
        start, end = int(match["start"], 16), int(match["end"], 16)
        memtype = type_of_word(match["type"])
        variable.append(Register(number, start, memtype, size=max(0, end - start), line=row.number))
    if lines:
        found.append(_facts(variable, unused, lines, cut))
    for index in headings if found else ():
        cursor.use(index)
    return found


def _facts(variable: list[Register], unused: list[int], lines: list[int], cut: list[int]) -> Mtrrs:
    return Mtrrs(
        "fwts",
        variable=tuple(variable),
        unused=tuple(unused),
        enabled=True,
        complete=not cut,
        lines=tuple(lines),
    )
