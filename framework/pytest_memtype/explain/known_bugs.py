"""Which bugs of the catalogue a report fits, by rules: the message, the sequence, the version.

A rule knows no report. It says why, and whether the text leaves any doubt.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pytest_memtype.bugs.facts import Bug
from pytest_memtype.dumps.facts import Dump
from pytest_memtype.explain.bug_case import Rule, bug_case
from pytest_memtype.explain.bug_versions import presence, version_words
from pytest_memtype.explain.linux_source import age
from pytest_memtype.explain.process_bugs import PROCESS_RULES
from pytest_memtype.explain.reservation_bugs import RESERVATION_RULES
from pytest_memtype.explain.subject import Subject
from pytest_memtype.explain.told_bugs import TOLD_RULES


@dataclass(frozen=True)
class Suspect:
    """A bug that a report fits.

    :param id: The bug's name in the catalogue.
    :param title: What goes wrong, in one line.
    :param why: What of the text fits it.
    :param sure: Whether the text leaves no doubt that it is this one.
    :param fits: Whether it fits by what the text says, and not just as the only one of the catalogue.
    """

    id: str
    title: str
    why: str
    sure: bool
    fits: bool = True


def suspects(dump: Dump, about: Subject, bugs: Iterable[Bug]) -> list[Suspect]:
    """The bugs that a report fits, the likeliest first.

    :param dump: What was read of the report.
    :param about: What it is about.
    :param bugs: The catalogue.
    """
    case = bug_case(dump, about)
    known_age = age(dump)
    hits = []
    for bug in bugs:
        hit = _RULES[bug.id](case) if bug.id in _RULES else None
        if hit is None:
            continue
        there = presence(bug, known_age)
        if there is False:
            continue
        why = hit.why
        if bug.introduced or bug.fixed:
            why += f"; {version_words(dump.kernel, there)}"
        hits.append((hit, there is True or not (bug.introduced or bug.fixed), bug, why))
    # The sequence speaks louder than the message alone.
    best = [each for each in hits if each[0].sequence] or hits
    return [
        Suspect(bug.id, bug.title, why, sure=len(best) == 1 and known and fits, fits=fits)
        for hit, known, bug, why in best
        for fits in [hit.sequence or hit.alone]
    ]


_RULES: Final[dict[str, Rule]] = {**RESERVATION_RULES, **PROCESS_RULES, **TOLD_RULES}
"""A rule for each bug of the suite's catalogue that a report can show. A bug of one's own has none."""
