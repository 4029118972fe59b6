"""Which versions have what a plan shows, by the model of Linux."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from pytest_memtype.reproduce.plan import Plan
from pytest_memtype.reproduce.play import Machine, played
from pytest_memtype.spec.linux_messages import Message
from pytest_memtype.spec.linux_versions import TABLE, Version


@dataclass(frozen=True)
class BugFacts:
    """The facts of a bug, as far as the model knows them.

    :param id: The bug's id.
    :param introduced: The first version that has it; None if all that are modelled have it.
    :param fixed: The first mainline version without it; None if none is known.
    :param backports: The first version without it of other series.
    """

    id: str
    introduced: str | None
    fixed: str | None
    backports: tuple[str, ...]


def bug_facts(name: str, plan: Plan, version: Version) -> BugFacts:
    """The facts of a bug that a plan shows.

    :param name: Its id.
    :param plan: The plan.
    :param version: A version that has the bug.
    """
    wanted = _said(plan, version)
    mainline = sorted({max(row.since) for row in TABLE})
    having = [each for each in mainline if _has(plan, each, wanted)]
    introduced = min(having, default=version)
    later = [each for each in mainline if each > max(having, default=version)]
    fixed = min(later, default=None)
    others = sorted({each for row in TABLE for each in row.since if each != max(row.since)})
    backports = [
        each
        for each in others
        if fixed is not None and introduced < each < fixed and not _has(plan, each, wanted)
    ]
    first_of_series = {each[:2]: each for each in reversed(backports)}
    return BugFacts(
        name,
        None if introduced == mainline[0] else _text(introduced),
        None if fixed is None else _text(fixed),
        tuple(_text(each) for each in sorted(first_of_series.values())),
    )


def _has(plan: Plan, version: Version, wanted: Iterable[Counter[Message]]) -> bool:
    return all(not before - now for before, now in zip(wanted, _said(plan, version), strict=True))


def _said(plan: Plan, version: Version) -> list[Counter[Message]]:
    """The messages that the model of a version says in each part that has steps."""
    return [
        Counter(
            played(part.steps, part.board, Machine(version, part.setting.has_mtrr, part.setting.pat)).said
        )
        for part in plan.parts
        if part.board is not None
    ]


def _text(version: Version) -> str:
    return ".".join(map(str, version if version[2] else version[:2]))
