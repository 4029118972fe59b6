"""A report, and the answer of a rule whether a known bug fits it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pytest_memtype.dumps.facts import Complaint, Dump, Kind
from pytest_memtype.explain.event import is_of_one_event
from pytest_memtype.explain.subject import Subject, says


@dataclass(frozen=True)
class BugCase:
    """A report, as the rules are asked about it.

    :param dump: What was read of the report.
    :param about: What it is about.
    :param words: The writer's words.
    """

    dump: Dump
    about: Subject
    words: str

    def says(self, pattern: str) -> bool:
        """Whether the writer says something, and not that it wasn't so."""
        return says(self.words, pattern)

    def of(self, *kinds: Kind) -> tuple[Complaint, ...]:
        """The complaints of some kinds that may be of the event that counts, in the order of the text."""
        return tuple(each for each in self.dump.of(*kinds) if is_of_one_event(self.about.main, each))

    def kind(self, *kinds: Kind) -> Complaint | None:
        """The first of those."""
        return next(iter(self.of(*kinds)), None)


@dataclass(frozen=True)
class Hit:
    """The answer of a rule that a bug may be the one.

    :param why: What of the text fits it.
    :param sequence: Whether the sequence of operations is told, or some of it; without, the message alone
        speaks for the bug.
    :param alone: Whether the message alone is enough; not where other things than bugs of the catalogue lead
        to it.
    """

    why: str
    sequence: bool = True
    alone: bool = True


Rule = Callable[[BugCase], Hit | None]
"""Says whether a report may be of a bug."""


def bug_case(dump: Dump, about: Subject) -> BugCase:
    """The case of a report.

    :param dump: What was read of it.
    :param about: What it is about.
    """
    return BugCase(dump, about, "\n".join([*(each.text for each in dump.prose), dump.command_line or ""]))
