"""The part of a failed test's report that is ours: operations, logs, how to run its guests again."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import Any, Final

import pytest

from pytest_memtype.errors import AgentError, GuestExited, ProcessDied, UsageError
from pytest_memtype.guest.outcome import Outcome
from pytest_memtype.report.operations import told_of_failure, told_of_guest
from pytest_memtype.report.record import Record

# A shorter line of the kernel's may be in any text.
_LEAST: Final = 20


def machines(guests: Sequence[Record]) -> list[str]:
    """The guests of a test, a line for those that are alike.

    :param guests: What each record of a guest has, from the first guest on.
    """
    numbers: dict[str, list[str]] = {}
    for number, each in enumerate(guests, 1):
        numbers.setdefault(told_of_guest(each), []).append(str(number))
    several = len(guests) > 1
    return [
        f"guest {', '.join(alike)}: {what}" if several else f"guest: {what}"
        for what, alike in numbers.items()
    ]


def operations(
    item: pytest.Item, records: list[Record], call: pytest.CallInfo[Any], *, said: str, last: int
) -> list[str]:
    """The operations of a test in each of its guests, those marked that the failure is about.

    :param item: The test.
    :param records: Its records.
    :param call: What pytest knows of the failure.
    :param said: What the report says above.
    :param last: Number of the last guest.
    """
    named = list(_in_question(item, call))
    outcomes = [each for each in named if isinstance(each, Outcome)]
    by_guest: dict[int, list[Record]] = {}
    for record in records:
        by_guest.setdefault(record["guest"], []).append(record)
    lines = []
    for number, found in by_guest.items():
        failing = {step for each in outcomes for step in _step_of(each, found)}
        failing |= {each["step"] for each in found if _is_told(each, said)}
        if not failing and not named and number == last and _was_at_work(item, call):
            failing = {found[-1]["step"]}
        # A report of the kernel that is told above isn't told again.
        shown = [{**each, "log": []} if _is_told(each, said) else each for each in found]
        lines.append(f"operations in guest {number}:" if len(by_guest) > 1 else "operations:")
        lines += told_of_failure(shown, failing)
    return lines


def _is_told(record: Record, said: str) -> bool:
    """Is a message that came with an operation a part of what the report says?"""
    return any(len(line) > _LEAST and line in said for line in record["log"])


def _in_question(item: pytest.Item, call: pytest.CallInfo[Any]) -> Iterator[object]:
    """The outcomes that the failed statement names, and lists of outcomes, of which any may be meant."""
    if call.excinfo is None:
        return
    frames = [entry for entry in call.excinfo.traceback if entry.path == item.path]
    if not frames:
        return
    try:
        tree = ast.parse(str(frames[-1].statement).strip())
    except (SyntaxError, ValueError):
        # A statement that begins a block, such as "if outcome.accepted:", is none by itself.
        return
    values = frames[-1].locals
    for name in dict.fromkeys(node.id for node in ast.walk(tree) if isinstance(node, ast.Name)):
        value = values.get(name)
        is_list = isinstance(value, list | tuple) and any(isinstance(each, Outcome) for each in value)
        if isinstance(value, Outcome) or is_list:
            yield value


def _step_of(outcome: Outcome, records: list[Record]) -> list[int]:
    """The step of an outcome, the last that is like it: one that made no mapping may have been repeated."""
    wanted = (
        outcome.actor,
        None if outcome.requested_or_none is None else str(outcome.requested_or_none),
        (outcome.region.start, outcome.region.pages),
        None if outcome.mapping is None else outcome.mapping.handle,
    )
    steps = [
        record["step"]
        for record in records
        if record["operation"].startswith(outcome.operation)
        and wanted == (record.get("actor"), record.get("requested"), _place(record), record.get("handle"))
    ]
    return steps[-1:]


def _place(record: Record) -> tuple[Any, Any] | None:
    region = record.get("region")
    return (region.get("start"), region.get("pages")) if isinstance(region, dict) else None


def _was_at_work(item: pytest.Item, call: pytest.CallInfo[Any]) -> bool:
    """Did an operation raise the error, and not a statement of the test that only looks at values?"""
    if call.excinfo is None or not call.excinfo.traceback:
        return False
    error = call.excinfo.value
    if isinstance(error, pytest.fail.Exception):
        # What was found at the test's end.
        return False
    if isinstance(error, UsageError | AgentError | GuestExited) and not isinstance(error, ProcessDied):
        # It was never carried out, so that the last record is of the operation before it.
        return False
    last = call.excinfo.traceback[-1]
    return last.path != item.path or "(" in str(last.statement)
