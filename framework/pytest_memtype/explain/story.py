"""The meaning of a complaint, and the words that all stories use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pytest_memtype.dumps.facts import Complaint, Dump, Kind, Span
from pytest_memtype.explain.linux_source import Age, age
from pytest_memtype.explain.subject import Subject
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.size import format_size

_WHAT: Final = {
    MemType.WB: "cached (write-back, WB)",
    MemType.WC: "write-combining (WC)",
    MemType.WT: "write-through (WT)",
    MemType.WP: "write-protected (WP)",
    MemType.UC: "strictly uncached (UC)",
    MemType.UC_MINUS: "uncached (UC-)",
}


KEPT_APART: Final = "no: the refusal is what keeps one page from having two types"
NOT_MAPPED: Final = "no: nothing was mapped"
AS_IT_IS: Final = "no: the memory stays as it is"
NO_SIGN: Final = "nothing in the text is a sign of danger"
"""Answers to the question whether it is dangerous."""


@dataclass(frozen=True)
class Story:
    """The meaning of a complaint.

    :param answer: One or two sentences: the whole of it.
    :param rule: The rule of Linux that answered, with its place.
    :param danger: Whether it is dangerous, and to what.
    :param advice: What people do about it.
    """

    answer: str
    rule: str
    danger: str
    advice: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """A report, what it is about, and the complaint that counts."""

    dump: Dump
    about: Subject
    main: Complaint

    @property
    def age(self) -> Age:
        """The version of the kernel, as far as the report says it."""
        return age(self.dump)


def said(memtype: MemType | None) -> str:
    """A type in words."""
    return "a type that isn't said" if memtype is None else _WHAT[memtype]


def where(span: Span | None) -> str:
    """A range in words."""
    if span is None:
        return "memory that the text doesn't name"
    size = format_size(span.size)
    unit = " bytes" if size.isdigit() else ""
    return f"{span.start:#x}-{span.end:#x} ({size}{unit})"


def who(complaint: Complaint) -> str:
    """The actor of a complaint in words, as far as the line names one."""
    if complaint.process is not None:
        pid = f" ({complaint.pid})" if complaint.pid is not None else ""
        return f"the process {complaint.process}{pid}"
    if complaint.caller is not None:
        return f"the function {complaint.caller}()"
    if complaint.kind is Kind.MTRR_WC_FAILED and "write-combining range" in complaint.raw:
        return "the X server"
    return "somebody whom the line doesn't name"


def stack(complaint: Complaint) -> str:
    """The functions that led to a complaint in words, the innermost first; empty if the text hasn't any."""
    if not complaint.trace:
        return ""
    return f", called by {', '.join(f'{each}()' for each in complaint.trace[:4])}"


Teller = Callable[[Case], Story]
"""Tells the story of a complaint."""
