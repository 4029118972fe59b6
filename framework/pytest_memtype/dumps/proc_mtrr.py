"""``/proc/mtrr`` (mtrr_seq_show(), arch/x86/kernel/cpu/mtrr/if.c), in the words of 2.4 to today."""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

from pytest_memtype.dumps.facts import Line, Mtrrs, Register
from pytest_memtype.dumps.text import MOST_COLUMNS, Cursor, Row
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
#: So many characters of a line that is cut are the marks of quoting in front of it.
_MOST_MARKS: Final = 64


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

    def take(self, number: int, match: re.Match[str] | None, row: Row) -> None:
        """Take a register.

        :param number: Its number.
        :param match: The whole of it; None where it is cut.
        :param row: Its line.
        """
        self.numbers.append(number)
        base = int(match["base"], 16) if match else 0
        megabytes = int(match["megabytes"]) if match and match["megabytes"] is not None else base >> 20
        if match is None or base >> 20 != megabytes:
            if not self.odd or self.odd[-1].number != row.number:
                self.odd.append(Line(row.number, row.text[:400]))
            self.factors += [megabytes / (base >> 20)] if base >> 20 else []
            return
        counted = match["count"] or match["old"]
        self.registers.append(
            Register(
                number,
                base,
                type_of_word(match["type"]),
                size=int(match["size"]) * UNITS[match["unit"].upper()],
                count=int(counted) if counted else None,
                line=row.number,
            )
        )

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
        registers, count = _registers(cursor, index)
        if registers:
            cursor.use(index, count)
        for number, match in registers:
            if not groups or number <= groups[-1].numbers[-1] or row.number - last > _FAR:
                groups.append(_Group())
            last = row.number
            groups[-1].take(number, match, row)
    found = [
        _listing(each.registers, [line.number for line in each.odd])
        for each in groups
        if each.registers and not each.is_scaled()
    ]
    return found, [line for each in groups for line in each.odd]


def _registers(cursor: Cursor, index: int) -> tuple[list[tuple[int, re.Match[str] | None]], int]:
    """The registers that begin in a line, None for one that is cut; and the number of lines that have them.

    People paste the whole listing on one line. What is longer than is read has lost its end.
    """
    row = cursor.rows[index]
    begun = {each.start(): int(each["number"]) for each in _BEGINNING.finditer(row.message)}
    best: dict[int, re.Match[str]] = {}
    lines = 1
    for text, count in cursor.pieces(index):
        # What begins in a later line is that line's.
        whole = {each.start(): each for each in _REGISTER.finditer(text) if each.start() in begun}
        if len(whole) > len(best):
            best, lines = whole, count
        if len(best) >= len(begun):
            break
    found = [(number, best.get(start)) for start, number in begun.items()]
    if found and len(row.text) > MOST_COLUMNS - _MOST_MARKS:
        found.append((found[-1][0] + 1, None))
    return found, lines


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
