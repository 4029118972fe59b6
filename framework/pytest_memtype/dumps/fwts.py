"""The firmware test suite's "MTRR overview", and what it finds (fwts, src/cpu/mtrr/mtrr.c)."""

from __future__ import annotations

import re
from typing import Final

from pytest_memtype.dumps.facts import Kind, Mtrrs, Register
from pytest_memtype.dumps.message_form import HEX, form
from pytest_memtype.dumps.text import Cursor
from pytest_memtype.dumps.words import TYPE, type_of_word

_MEMORY: Final = (
    rf"Attr: Test \d{{1,3}}, Memory range (?P<start>{HEX}) to (?P<last>{HEX})(?: \((?P<name>[^()]{{1,80}})\)"
)
_TYPES: Final = rf"(?: (?P<first>{TYPE}))?(?: (?P<second>{TYPE}))?"

FWTS_FORMS: Final = (
    # validate_iomem(); behind the types there may be " Default (Uncached)".
    form(
        Kind.FWTS,
        "attr: test",
        rf"\bMTRRIncorrect{_MEMORY}(?: has incorrect attribute{_TYPES})?)?",
        "name",
    ),
    form(
        Kind.FWTS,
        "attr: test",
        rf"\bMTRRLacking{_MEMORY}(?: is lacking attribute(?: (?P<asked>{TYPE}))?)?)?",
        "name",
    ),
)
"""The forms of what it finds; of two that match a line the first counts."""

_REGISTER: Final = re.compile(
    r"\bReg (?P<number>\d{1,3}): 0x(?P<start>[0-9a-f]{1,16}) - 0x(?P<end>[0-9a-f]{1,16}) \(\s*\d+ [KM]B\)\s+"
    r"(?P<type>Uncached|Write-(?:Combining|Through|Protect|Back))"
)
_BEGINNING: Final = re.compile(r"\bReg \d{1,3}: 0x[0-9a-f]")
_UNUSED: Final = re.compile(r"\bReg (?P<number>\d{1,3}): disabled")


def fwts(cursor: Cursor) -> list[Mtrrs]:
    """The listings in a text."""
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
        # entry->end was start + size once, and is start + size - 1 in the fwts of 2018.
        size = max(0, end + end % 2 - start)
        variable.append(Register(number, start, type_of_word(match["type"]), size=size, line=row.number))
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
