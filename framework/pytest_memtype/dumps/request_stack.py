"""The stack of a request that somebody had printed, by a dump_stack() of his own in the kernel."""

from __future__ import annotations

from typing import Final

from pytest_memtype.dumps.text import Cursor
from pytest_memtype.dumps.warnings import frame_of

_REQUESTS: Final = ("memtype_reserve", "reserve_memtype")


def request_stack(cursor: Cursor) -> tuple[str, ...]:
    """The callers of a request for a reservation, the innermost first; of several stacks those of the first.

    :param cursor: The text, of which WARNINGs and BUGs were read with their stacks.
    """
    for index, row in enumerate(cursor.rows):
        if row.number in cursor.used or not any(each in row.message for each in _REQUESTS):
            continue
        frame = frame_of(row.message)
        if frame is None or frame.name not in _REQUESTS or frame.unsure:
            continue
        callers = []
        cursor.use(index)
        for number in range(index + 1, min(index + 64, len(cursor.rows))):
            caller = frame_of(cursor.rows[number].message)
            if caller is None:
                break
            cursor.use(number)
            if not caller.unsure:
                callers.append(caller.name)
        if callers:
            return tuple(callers)
    return ()
