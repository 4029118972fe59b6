"""Whether a kernel's log has the messages of a report: by what they say, not by their letters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from pytest_memtype.dumps.facts import Complaint, Kind, Span
from pytest_memtype.dumps.read import read
from pytest_memtype.explain.process_bugs import FIRST_PAGE

# What tells messages of a kind apart: which registers differ, what base and size aren't, why it is off.
_APART = re.compile(r"\binconsistent \S+|\bmultiples\b|\bdisabled \(?(?:by|via|not|because)\b[^).]*", re.I)

_KERNEL_TIME = re.compile(r"^\s*\[\s*\d+\.\d+\]\s?")


def complaints_in(log: str) -> tuple[Complaint, ...]:
    """The messages about memory types in a kernel's log."""
    return read(log).complaints


def pairs(
    wanted: Iterable[Complaint], found: Sequence[Complaint], *, offset: int
) -> list[tuple[Complaint, Complaint | None]]:
    """The messages of a report, each with the kernel's own, None where it hasn't said it.

    Names and numbers of processes, and times, are those of each machine.

    :param wanted: The report's messages.
    :param found: The kernel's.
    :param offset: What is added to the report's addresses to have the kernel's.
    """
    return [
        (each, next((other for other in found if same(each, other, offset=offset)), None)) for each in wanted
    ]


def same(wanted: Complaint, found: Complaint, *, offset: int) -> bool:
    """Whether a kernel's message says all that the report's says."""
    if wanted.kind is not found.kind:
        return False
    if wanted.kind is Kind.WARNING:
        both = {wanted.function, found.function}
        return wanted.function == found.function or (None not in both and both <= FIRST_PAGE)
    return (
        _span(wanted.span, offset) in (None, _span(found.span, 0))
        and _span(wanted.other, offset) in (None, _span(found.other, 0))
        and _apart(wanted) in (None, _apart(found))
        and wanted.asked in (None, found.asked)
        and wanted.held in ((), found.held)
        and wanted.granted in (None, found.granted)
        and wanted.errno in (None, found.errno)
    )


def _apart(complaint: Complaint) -> str | None:
    words = _APART.search(complaint.raw)
    return None if words is None else words[0].lower()


def _span(span: Span | None, offset: int) -> tuple[int, int] | None:
    return None if span is None else (span.start + offset, span.end + offset)


def without_time(line: str) -> str:
    """A line of ``dmesg`` without the seconds since the boot."""
    return _KERNEL_TIME.sub("", line)
