"""Complaints of one event: the only ones that may explain each other.

A text has what a machine said in hours, of several drivers and processes. That two of its lines are of one
boot doesn't make the one the reason of the other.
"""

from __future__ import annotations

from typing import Final

from pytest_memtype.dumps.facts import Complaint, Kind

#: Complaints of the boot as a whole, under which all of it happens.
_OF_ALL: Final = frozenset(
    {Kind.PAT_SKIPPED, Kind.PAT_ABSENT, Kind.PAT_DISABLED, Kind.MTRR_OFF, Kind.MTRR_BLANK}
)

#: A stack stands between a message and its WARNING, a list of modules too; both may be wrapped.
_NEAR: Final = 80


def is_of_one_event(main: Complaint | None, other: Complaint) -> bool:
    """Whether two complaints may be of one event: by their memory, else by their process or their place.

    :param main: The complaint that counts; None where there is none, so that every other may be meant.
    :param other: Another one of the same boot.
    """
    if main is None or other is main or other.kind in _OF_ALL:
        return True
    if main.span is not None and other.span is not None:
        return main.span.overlaps(other.span)
    if main.pid is not None and other.pid is not None:
        return main.pid == other.pid
    return any(abs(line - main.line) <= _NEAR for line in (other.line, *other.lines))
