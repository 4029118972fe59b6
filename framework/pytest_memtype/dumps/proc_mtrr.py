"""``/proc/mtrr`` (mtrr_seq_show(), arch/x86/kernel/cpu/mtrr/if.c), in the words of 2.4 to today."""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import Final

from pytest_memtype.dumps.facts import Line, Mtrrs, Register
from pytest_memtype.dumps.text import Cursor
from pytest_memtype.dumps.words import TYPE, type_of_word
from pytest_memtype.x86.size import UNITS

# Until 2.6.30 the count stood behind the type.
_REGISTER: Final = re.compile(
    r"\breg(?P<number>\d{1,3}): ?base=\s?0x(?P<base>[0-9a-f]{1,16})(?: \(\s*(?P<megabytes>\d{1,11}) "
    r"?MB\))?, size=\s*"
    rf"(?P<size>\d{{1,11}}) ?(?P<unit>[KMG])B(?:, count=(?P<count>\d{{1,6}}))?: (?P<type>{TYPE})(?:, "
    rf"count=(?P<old>\d{{1,6}}))?",
    # ASCII, as the sign of kelvins is a K where case doesn't matter.
    re.I | re.ASCII,
)
_BEGINNING: Final = re.compile(r"\breg\d{1,3}: ?base=", re.I)
#: Ranges further apart than this are of two listings.
_FAR: Final = 12


def proc_mtrr(cursor: Cursor) -> tuple[list[Mtrrs], list[Line]]:
    """The listings in a text; and lines that are cut, as where base and megabytes disagree."""
    groups: list[list[Register]] = []
    odd: list[Line] = []
    last = 0
    for index, row in enumerate(cursor.rows):
        if "reg" not in row.text or "base=" not in row.text:
            continue
        hit = cursor.search(index, _REGISTER)
        if hit is None:
            if _BEGINNING.search(row.message):
                cursor.use(index)
                odd.append(Line(row.number, row.text[:400]))
            continue
        match, count = hit
        cursor.use(index, count)
        base = int(match["base"], 16)
        if match["megabytes"] is not None and base >> 20 != int(match["megabytes"]):
            odd.append(Line(row.number, row.text[:400]))
            continue
        counted = match["count"] or match["old"]
        register = Register(
            int(match["number"]),
            base,
            type_of_word(match["type"]),
            size=int(match["size"]) * UNITS[match["unit"].upper()],
            count=int(counted) if counted else None,
            line=row.number,
        )
        if not groups or register.number <= groups[-1][-1].number or row.number - last > _FAR:
            groups.append([])
        groups[-1].append(register)
        last = row.number
    cut = [each.number for each in odd]
    return [_listing(each, cut) for each in groups], odd


def _listing(registers: list[Register], cut: list[int]) -> Mtrrs:
    # The lines that are cut ascend, and may be as many as there are listings.
    first = bisect_left(cut, registers[0].line - _FAR)
    return Mtrrs(
        "/proc/mtrr",
        variable=tuple(registers),
        enabled=True,
        complete=not any(each <= registers[-1].line + _FAR for each in cut[first : first + 1]),
        lines=tuple(each.line for each in registers),
    )
