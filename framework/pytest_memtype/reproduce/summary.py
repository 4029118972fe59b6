"""The one-page summary of what came of a report: plain text for a mail."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Final

from pytest_memtype.errors import harmless
from pytest_memtype.reproduce.attempt import Attempt
from pytest_memtype.reproduce.calls import calls_of
from pytest_memtype.reproduce.outcome import Outcome
from pytest_memtype.reproduce.plan import Part

_WIDTH: Final = 76
_MOST_LINES: Final = 12


def summary(outcome: Outcome, *, source: str, test: str) -> str:
    """The summary of what came of a report.

    :param outcome: What came of it.
    :param source: The name of the report.
    :param test: The name of the test's file; empty without one.
    """
    return "\n".join(harmless(line) for line in _lines(outcome, source, test)) + "\n"


def _lines(outcome: Outcome, source: str, test: str) -> Iterator[str]:
    yield from textwrap.wrap(f"{source}: {outcome.verdict.headline}: {outcome.why}", _WIDTH)
    yield from ("", "The report says:")
    asked = outcome.wanted.complaints or outcome.unknown
    yield from _some([each.raw for each in asked])
    for each in outcome.attempts:
        yield from ("", *_attempt(each))
    if outcome.plan is not None:
        for part in outcome.plan.parts:
            yield from ("", *_part(part))
    if outcome.unknown:
        yield from ("", "Not tried, as the model of Linux has no way to it:")
        yield from _some([each.raw for each in outcome.unknown])
    if test and outcome.attempts:
        yield from ("", "To run it again, with pytest-memtype:")
        yield f"  memtype run --kernel debian:{outcome.attempts[0].release} {test}"


def _some(lines: list[str]) -> Iterator[str]:
    # A kernel's lines aren't wrapped: people search for them.
    yield from (f"  {line}" for line in lines[:_MOST_LINES])
    if len(lines) > _MOST_LINES:
        yield f"  and {len(lines) - _MOST_LINES} more"


def _attempt(attempt: Attempt) -> Iterator[str]:
    kernel = f"Linux {attempt.version} ({attempt.release}, in QEMU)"
    if attempt.trouble:
        yield from textwrap.wrap(f"{kernel}: {attempt.trouble}", _WIDTH)
        return
    if attempt.reproduced:
        yield f"{kernel} says the same:"
        yield from _some(list(attempt.lines))
        return
    yield f"{kernel} doesn't say:"
    yield from _some([each.raw for each in attempt.missing])
    if attempt.lines:
        yield "It says:"
        yield from _some(list(attempt.lines))


def _part(part: Part) -> Iterator[str]:
    setting = part.setting
    hardware = setting.hardware
    extra = f", command line {hardware.cmdline!r}" if hardware.cmdline else ""
    yield from textwrap.wrap(
        f"The machine: {hardware.cpus} CPU ({hardware.cpu}), {hardware.memory} of RAM, "
        f"MTRR layout {setting.layout.name!r}{extra}.",
        _WIDTH,
    )
    if setting.layout.default is not None:
        state = "" if setting.layout.enabled else ", all switched off"
        yield f"  default {setting.layout.default}{state}"
        yield from (f"  {each}" for each in setting.layout.ranges)
    if setting.notes:
        yield "What isn't as in the report:"
        for note in setting.notes:
            yield from textwrap.wrap(note, _WIDTH, initial_indent="  ", subsequent_indent="    ")
    calls = calls_of(part)
    yield "What was done in it:" if calls else "Nothing was done in it: it has booted."
    yield from (f"  {call}" for call in calls)
