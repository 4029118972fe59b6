"""A report, and the answer of a rule whether a known bug fits it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

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


#: A line of strace's, with the process in front where it follows several.
_CALL: Final = re.compile(
    r"^\s*(?:\[pid +\d{1,10}\] |\d{1,10} +)?(?:[\d:.]{8,20} )?(?P<name>[a-z_]\w{2,20})"
    r"\((?:(?P<first>0x[0-9a-f]{1,16})|\w{1,30}), (?P<second>\d{1,18})\b.{0,300}"
    r"\) *= *(?P<result>0x[0-9a-f]{1,16})?"
)
_ON_MEMORY: Final = frozenset({"mprotect", "munmap", "mremap", "madvise"})

Rule = Callable[[BugCase], Hit | None]
"""Says whether a report may be of a bug."""


def bug_case(dump: Dump, about: Subject) -> BugCase:
    """The case of a report.

    :param dump: What was read of it.
    :param about: What it is about.
    """
    lines = _without_others_calls([each.text for each in dump.prose])
    return BugCase(dump, about, "\n".join([*lines, dump.command_line or ""]))


def _without_others_calls(lines: Sequence[str]) -> list[str]:
    """Lines without strace's calls on memory that isn't shared: each program's loader calls mprotect().

    :param lines: Lines of the text.
    """
    calls = [(line, _CALL.match(line)) for line in lines]
    shared = [
        (int(call["result"], 16), int(call["second"]))
        for _, call in calls
        if call is not None and call["name"].startswith("mmap") and "MAP_SHARED" in call[0] and call["result"]
    ]

    def is_of_shared(call: re.Match[str]) -> bool:
        address = int(call["first"] or "0", 16)
        return any(start <= address < start + size for start, size in shared)

    return [
        line for line, call in calls if call is None or call["name"] not in _ON_MEMORY or is_of_shared(call)
    ]
