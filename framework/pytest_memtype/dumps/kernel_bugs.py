"""BUGs of the functions that have to do with memory types: the kernel kills the process that comes there."""

from __future__ import annotations

import re
from typing import Final

from pytest_memtype.dumps.facts import Complaint, Kind
from pytest_memtype.dumps.text import Cursor
from pytest_memtype.dumps.warnings import PLACE, ends_fault, is_of_memory_types, with_stack, without_suffix

# report_bug(), lib/bug.c. The function stands below, where the registers are.
_HEADER: Final = re.compile(r"\bkernel BUG at (?P<file>[\w./+~-]{1,200}):(?P<number>\d{1,6})!")
#: Registers and stack have so many lines at most; behind them the place stands once more.
_MOST_ROWS: Final = 80


def kernel_bugs(cursor: Cursor) -> list[Complaint]:
    """The BUGs of a text that have to do with memory types."""
    found = []
    for index, row in enumerate(cursor.rows):
        match = _HEADER.search(row.message) if "kernel BUG at " in row.message else None
        if match is None:
            continue
        function = _function(cursor, index + 1)
        if not is_of_memory_types(match["file"], function or ""):
            continue
        cursor.use(index)
        bug = Complaint(Kind.BUG, row.number, match[0], time=row.time, function=function, lines=(row.number,))
        found.append(with_stack(cursor, index + 1, bug))
    # Above a log people say which BUG it has.
    named = {each.raw for each in found if each.function is not None}
    return [each for each in found if each.function is not None or each.raw not in named]


def _function(cursor: Cursor, start: int) -> str | None:
    """The function that the CPU was in; every line that says it is used."""
    function = None
    for number in range(start, min(start + _MOST_ROWS, len(cursor.rows))):
        message = cursor.rows[number].message
        if ends_fault(message):
            break
        place = PLACE.match(message)
        if place is None:
            continue
        name = without_suffix(place["function"])
        function = function or name
        if name == function:
            cursor.use(number)
    return function
