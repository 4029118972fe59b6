"""The words of a message that are the same in every log, to be looked for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from pytest_memtype.dumps.facts import Complaint, Kind
from pytest_memtype.reproduce.plan import Part

#: "Xorg:509 " in front of the message, with the name of whoever was running.
_WHO: Final = re.compile(r"^.{1,15}?:\d{1,10} (?=conflicting|freeing|map pfn|ioremap_change)")


def words_of(complaint: Complaint) -> str:
    """The words of a message that a kernel has said."""
    if complaint.kind is Kind.WARNING and complaint.function is not None:
        return complaint.function
    return _WHO.sub("", complaint.raw)


def expected(part: Part, made: Sequence[tuple[Complaint, Complaint]]) -> list[str]:
    """The words that a kernel's log shall have after a part.

    :param part: The part.
    :param made: Messages of reports with those that a kernel said in their place; the report's own words are
        taken for the others.
    """
    found = [next((new for old, new in made if old == each), each) for each in part.complaints]
    return list(dict.fromkeys(map(words_of, found)))
