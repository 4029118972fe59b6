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
    r"^(?P<why>BUG: (?:unable to handle|kernel NULL pointer).{1,100}|Oops: (?!invalid opcode).{1,100}"
    # Without "BUG: " before 2.6.24.
    r"|Unable to handle kernel (?:paging request|NULL pointer dereference) at .{1,60})"
)
#: The same in a line without the log's prefix, which may be somebody's sentence.
_BARE_OOPS: Final = re.compile(
    r"^(?:(?:BUG: u|U)nable to handle (?:kernel )?(?:paging request|NULL pointer dereference) at "
    r"(?:virtual address |address: )?[0-9a-f]{4,16}\b|Oops: [0-9a-f]{4} \[#\d)"
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
            return Line(row.number, f"{match['why'].strip()}{_rest(cursor, index, count)}")
    return None


#: Mailers wrap a line that would be longer than that with its next word.
_WRAPPED_AT: Final = 72


def _rest(cursor: Cursor, index: int, count: int) -> str:
    """The end of a reason, where a mailer has put it into the next line; else nothing.

    :param cursor: The lines of the boot.
    :param index: The index of the panic's first line.
    :param count: The number of its lines.
    """
    last, following = cursor.rows[index + count - 1], cursor.rows[index + count : index + count + 1]
    if not (cursor.rows[index].prefixed and following) or following[0].prefixed:
        return ""
    words = following[0].text.split()
    if not words or len(f"{last.text} {words[0]}") <= _WRAPPED_AT:
        return ""
    cursor.use(index + count)
    return f" {' '.join(words)}"


def oops(cursor: Cursor) -> Line | None:
    """The first Oops of a boot with the function that it was in; None where there is none.

    :param cursor: The lines of the boot.
    """
    for index, row in enumerate(cursor.rows):
        message = row.message.strip()
        match = _OOPS.match(message)
        if match is None or not (row.prefixed or _BARE_OOPS.match(message)):
            continue
        cursor.use(index)
        below = cursor.rows[index + 1 : index + _MOST_ROWS]
        place = next(filter(None, (PLACE.match(each.message) for each in below)), None)
        where = f", in {without_suffix(place['function'])}()" if place is not None else ""
        return Line(row.number, f"{match['why'].strip()}{where}")
    return None
