"""``/proc/mtrr`` (mtrr_seq_show(), arch/x86/kernel/cpu/mtrr/if.c), in the words of 2.4 to today."""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass, field
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
_BEGINNING: Final = re.compile(r"\breg(?P<number>\d{1,3}): ?base=", re.I)
#: Ranges further apart than this are of two listings.
_FAR: Final = 12


@dataclass
class _Group:
    """Lines one behind the other whose numbers ascend: those of one listing.

    :param numbers: The registers' numbers, of lines that are cut, too.
    :param registers: Those that were understood.
    :param odd: The lines that weren't.
    :param factors: How many times too large the megabytes of those are.
    """

    numbers: list[int] = field(default_factory=list)
    registers: list[Register] = field(default_factory=list)
    odd: list[Line] = field(default_factory=list)
    factors: list[float] = field(default_factory=list)

    def is_scaled(self) -> bool:
        """Whether a kernel has printed all too large by one factor, and sizes as well.

        2.5.59 did, as mails of January 2003 show: by 16. A digit that is lost makes a factor, too, but of one
        line.
        """
        bases = [each for each in self.registers if each.base]
        return len(self.factors) > 1 and len(set(self.factors)) == 1 and self.factors[0] > 1 and not bases


def proc_mtrr(cursor: Cursor) -> tuple[list[Mtrrs], list[Line]]:
    """The listings in a text; and lines that are cut, as where base and megabytes disagree."""
    groups: list[_Group] = []
    last = 0
    for index, row in enumerate(cursor.rows):
        if "reg" not in row.text or "base=" not in row.text:
            continue
        hit = cursor.search(index, _REGISTER)
        # What begins in a later line is that line's.
        whole = hit if hit is not None and hit[0].start() < len(row.message.rstrip()) else None
        match, count = whole or (None, 1)
        numbered = match or _BEGINNING.search(row.message)
        if numbered is None:
            continue
        cursor.use(index, count)
        number = int(numbered["number"])
        if not groups or number <= groups[-1].numbers[-1] or row.number - last > _FAR:
            groups.append(_Group())
        group, last = groups[-1], row.number
        group.numbers.append(number)
        base = int(match["base"], 16) if match else 0
        megabytes = int(match["megabytes"]) if match and match["megabytes"] is not None else base >> 20
        if match is None or base >> 20 != megabytes:
            group.odd.append(Line(row.number, row.text[:400]))
            group.factors += [megabytes / (base >> 20)] if base >> 20 else []
            continue
        counted = match["count"] or match["old"]
        group.registers.append(
            Register(
                number,
                base,
                type_of_word(match["type"]),
                size=int(match["size"]) * UNITS[match["unit"].upper()],
                count=int(counted) if counted else None,
                line=row.number,
            )
        )
    found = [
        _listing(each.registers, [line.number for line in each.odd])
        for each in groups
        if each.registers and not each.is_scaled()
    ]
    return found, [line for each in groups for line in each.odd]


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
