"""What differs between the records of two runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from pytest_memtype.report.record import Record

Place: TypeAlias = tuple[str, int, int]
"""Test, number of the guest within it, step."""


@dataclass(frozen=True)
class Difference:
    """An operation that came out otherwise, or that only one of the runs has (the other is None)."""

    place: Place
    operation: str
    first: dict[str, Any] | None
    second: dict[str, Any] | None


def differences(first: Iterable[Record], second: Iterable[Record]) -> list[Difference]:
    """The operations that differ, in the order of their places.

    Compared is the answer: the verdict with the mapping in the way, the kernel's answer, the types granted
    and in effect, and results. Addresses, process ids and messages differ between any two runs.
    """
    answers = [{_place(record): record for record in records} for records in (first, second)]
    found = []
    for place in sorted({*answers[0], *answers[1]}):
        pair = [each.get(place) for each in answers]
        one, other = (None if record is None else _answer(record) for record in pair)
        if one != other:
            operation = next(record["operation"] for record in pair if record is not None)
            found.append(Difference(place, operation, one, other))
    return found


def _place(record: Record) -> Place:
    return record["test"], record["guest"], record["step"]


def _answer(record: Record) -> dict[str, Any]:
    answer: dict[str, Any] = {
        key: record[key]
        for key in ("operation", "actor", "requested", "beside", "kernel_answer", "granted", "effective")
        if key in record
    }
    if record.get("verdict") is not None:
        conflict = record["verdict"]["conflict"]
        if conflict is not None:
            # RAM is somewhere else in every run.
            conflict = {key: conflict[key] for key in ("owner", "kind", "memtype", "pages")}
        answer["verdict"] = {**record["verdict"], "conflict": conflict}
    if isinstance(record.get("result"), int | None):
        answer["result"] = record.get("result")
    return answer
