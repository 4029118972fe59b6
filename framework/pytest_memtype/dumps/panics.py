"""The panic that a text ends with, and its Oops."""

from __future__ import annotations

import re
from typing import Final

from pytest_memtype.dumps.facts import Line
from pytest_memtype.dumps.text import Cursor
from pytest_memtype.dumps.warnings import PLACE, without_suffix

# vpanic(), kernel/panic.c. Behind the stacks it is said once more: "---[ end Kernel panic - not syncing: ".
_PANIC: Final = re.compile(r"(?<!end )\bKernel panic - not syncing: (?P<why>.{1,160})")

# show_fault_oops() of arch/x86/mm/fault.c, and die() of arch/x86/kernel/dumpstack.c. A BUG's "invalid opcode"
# is told with the BUG.
_OOPS: Final = re.compile(
    r"^(?P<why>BUG: (?:unable to handle|kernel NULL pointer).{1,100}|Oops: (?!invalid opcode).{1,100})"
)
#: Registers and codes have so many lines at most above the place.
_MOST_ROWS: Final = 40


def panic(cursor: Cursor) -> Line | None:
    """The last panic of a boot with its reason; None where there is none.

    :param cursor: The lines of the boot.
    """
    for index in range(len(cursor.rows) - 1, -1, -1):
        row = cursor.rows[index]
        hit = cursor.search(index, _PANIC) if "Kernel" in row.message else None
        if hit is None:
            continue
        match, count = hit
        if match.start() >= len(row.message.rstrip()):
            # It is all in the lines below.
            continue
        # Words before it, and no prefix of the log's: somebody tells of a panic.
        if row.prefixed or not row.message[: match.start()].strip():
            cursor.use(index, count)
            return Line(row.number, match["why"].strip())
    return None


def oops(cursor: Cursor) -> Line | None:
    """The first Oops of a boot with the function that it was in; None where there is none.

    :param cursor: The lines of the boot.
    """
    for index, row in enumerate(cursor.rows):
        match = _OOPS.match(row.message.strip()) if row.prefixed else None
        if match is None:
            continue
        cursor.use(index)
        below = cursor.rows[index + 1 : index + _MOST_ROWS]
        place = next(filter(None, (PLACE.match(each.message) for each in below)), None)
        where = f", in {without_suffix(place['function'])}()" if place is not None else ""
        return Line(row.number, f"{match['why'].strip()}{where}")
    return None
