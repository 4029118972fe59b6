"""The registers that mtrr_cleanup found and left (arch/x86/kernel/cpu/mtrr/cleanup.c, 2.6.27 and later)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Final

from pytest_memtype.dumps.facts import Complaint, Kind, Mtrrs, Register
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
_SIZES: Final = r"gran_size: \d+[KMG]\s+chunk_size: \d+[KMG]\s+num_reg: (?P<registers>\d{1,3})\b"
RESULT: Final = re.compile(rf"\b{_SIZES}\s+lose cover RAM: (?P<lost>-?\d+)(?P<unit>[KMG])")
"""The line of a layout (mtrr_print_out_one_result()): its registers, and the RAM that it uncovers."""

#: What else it prints: attempts, sums, advice.
_NOISE: Final = re.compile(
    r"\b(?:total RAM covered: \d+M|rangeX?: [0-9a-f]+ - [0-9a-f]+|range0: |hole: |Setting variable MTRR "
    r"\d+, base: \d+[KMG]B"
    r"|MTRR MAP PFN: |After (?:WB|UC) checking|After sorting|please specify mtrr_gran_size/mtrr_chunk_size"
    rf"|\*?(?:BAD)?\s*{_SIZES})"
)


@dataclass
class _Listing:
    """The part of a listing that was read so far.

    :param heading: ``original``, ``New``, or None where it isn't in the text.
    :param expected: The number of registers that Linux said it would have.
    """

    heading: str | None = None
    expected: int | None = None
    registers: list[Register] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    cut: bool = False

    def is_whole(self) -> bool:
        """Whether all registers are there.

        print_out_mtrr_range_state() leaves out what isn't used. x86_setup_var_mtrrs() takes the new ones from
        0 on, and their number is num_reg of the line before "New variable MTRRs".
        """
        numbers = [each.number for each in self.registers]
        if self.heading == "New" and numbers != list(range(self.expected or len(numbers))):
            return False
        return not self.cut and (self.heading is not None or numbers[:1] == [0])


def attempts(cursor: Cursor) -> int:
    """The number of lines that say what was tried, and not what came of it."""
    return sum(_NOISE.search(row.message) is not None for row in cursor.rows)


def mtrr_cleanup(cursor: Cursor) -> list[Mtrrs]:
    """The listings in a text: ``original variable MTRRs``, and the new ones."""
    found: list[_Listing] = []
    cut_ahead = False
    chosen: int | None = None
    for index, row in enumerate(cursor.rows):
        head = _HEAD.search(row.message) if "variable MTRRs" in row.message else None
        if head is not None:
            new = head["which"] == "New"
            found.append(_Listing(head["which"], chosen if new else None, lines=list(cursor.use(index))))
            chosen = None
            continue
        if noise := _NOISE.search(row.message):
            chosen = int(noise["registers"]) if noise["registers"] else chosen
            cursor.use(index)
            continue
        hit = cursor.search(index, _REGISTER) if "reg " in row.message else None
        if hit is None:
            if _BEGINNING.search(row.message):
                # Of the listing that goes on here, or of one that is yet to begin.
                if found:
                    found[-1].cut = True
                else:
                    cut_ahead = True
            continue
        match, count = hit
        register = Register(
            int(match["number"]),
            int(match["base"]) * UNITS[match["base_unit"]],
            type_of_word(match["type"]),
            size=int(match["size"]) * UNITS[match["unit"]],
            line=row.number,
        )
        if not found or any(each.number >= register.number for each in found[-1].registers):
            found.append(_Listing())
        found[-1].registers.append(register)
        found[-1].lines.extend(cursor.use(index, count))
    if found and cut_ahead:
        found[0].cut = True
    return [
        Mtrrs(
            "mtrr_cleanup",
            variable=tuple(each.registers),
            enabled=True,
            result=each.heading == "New",
            complete=each.is_whole(),
            lines=tuple(each.lines),
        )
        for each in found
        if each.registers
    ]


def with_results(cursor: Cursor, found: list[Complaint]) -> list[Complaint]:
    """The complaints, with what the line below says of the layout that mtrr_cleanup chose.

    :param cursor: The lines.
    :param found: The complaints; one that several boots have alike says nothing of either's layout.
    """
    if all(each.kind is not Kind.MTRR_CLEANED for each in found):
        return found
    indices = {row.number: index for index, row in enumerate(cursor.rows)}
    return [_with_result(cursor, each, indices) if each.kind is Kind.MTRR_CLEANED else each for each in found]


def _with_result(cursor: Cursor, cleaned: Complaint, indices: dict[int, int]) -> Complaint:
    below = indices[max(cleaned.lines)] + 1
    hit = cursor.search(below, RESULT) if below < len(cursor.rows) else None
    if hit is None or cleaned.repeated > 1:
        return cleaned
    match, count = hit
    numbers = cursor.use(below, count)
    return replace(
        cleaned, raw=f"{cleaned.raw}: {' '.join(match[0].split())}", lines=(*cleaned.lines, *numbers)
    )
