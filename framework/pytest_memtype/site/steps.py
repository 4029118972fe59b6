"""A record as a line of a test's timeline: who did what, and what verifier, Linux and page table said."""

from __future__ import annotations

import json
from typing import Any, Final

from pytest_memtype.report.answer import KERNEL, VERIFIER, answers, errno_name
from pytest_memtype.report.page_types import page_types
from pytest_memtype.report.record import Record
from pytest_memtype.report.verdict_table import Answer, answer
from pytest_memtype.site.chunks import shown

#: The columns of a line. The page's script has the same list.
COLUMNS: Final = (
    "guest", "step", "actor", "operation", "requested", "region", "verdict", "linux", "table", "tracked",
    "disagree", "log",
)  # fmt: skip

_TRACKED: Final = ("memtype_list", "tracked", "observed")
_MOST_LOG: Final = 50


def line(record: Record) -> list[Any]:
    """The line of a record, as :data:`COLUMNS` names its columns; all texts are fit to be shown.

    :param record: The record.
    """
    texts = _request(record) if "requested" in record else _other(record)
    disagree = "kernel_answer" in record and answer(record).disagree
    log = record.get("log") or []
    logged = [shown(each) for each in log[:_MOST_LOG]]
    if len(log) > _MOST_LOG:
        logged.append(f"... and {len(log) - _MOST_LOG} more lines")
    head = [record["guest"], record["step"], shown(record["actor"])]
    return [*head, *map(shown, texts), int(disagree), logged]


def size_of(step: list[Any]) -> int:
    """About how many bytes a line takes as JSON."""
    return 40 + sum(len(each) for each in step if isinstance(each, str)) + sum(map(len, step[-1]))


def _request(record: Record) -> list[str]:
    region = record["region"]
    pages = region.get("pages")
    words = [_hexadecimal(region.get("start")), f"{pages} page{'s' if pages != 1 else ''}"]
    words += ["of RAM"] if record.get("memory") == "ram" else []
    words += [f"over {record['mtrr']} MTRRs"] if record.get("mtrr") else []
    # Of a driver's mapping the address isn't known.
    if record.get("address"):
        words.append(f"at {_hexadecimal(record['address'])}")
    operation = " ".join([str(record["operation"]), *_arguments(record)])
    said = answers(record)
    verdict = said.get(VERIFIER, "no verifier")
    beside = ", ".join(map(str, record.get("beside") or []))
    head = [operation, str(record["requested"]), " ".join(words), verdict]
    if "kernel_answer" not in record:
        return [*head, "not asked", "", beside]
    return [*head, _linux(record, answer(record)), _table(record), beside]


def _linux(record: Record, given: Answer) -> str:
    if given.linux != "refused":
        return given.linux
    return f"refused, {errno_name(record['kernel_answer']['errno'])}"


def _table(record: Record) -> str:
    if not record["granted"]:
        return ""
    table, effective = page_types(record["granted"]), record["effective"]
    if effective is None or page_types(effective) == table:
        return table
    return f"{table} (effective {page_types(effective)})"


def _other(record: Record) -> list[str]:
    name = record["operation"]
    operation = " ".join([str(name), *_arguments(record)])
    result = answers(record).get(KERNEL) or _result(record.get("result"))
    match name:
        case "page_table":
            found = ["", "", result, ""]
        case "lookup":
            found = [result, "", "", ""]
        case _ if name in _TRACKED:
            found = ["", "", "", result]
        case _:
            found = ["", result, "", ""]
    return [operation, "", "", *found]


def _result(result: Any) -> str:
    if result is None or isinstance(result, str):
        return result or ""
    return json.dumps(result)


def _arguments(record: Record) -> list[str]:
    arguments = record.get("arguments") or {}
    return [
        f"{name}={_hexadecimal(value) if name in ('start', 'address') else value}"
        for name, value in arguments.items()
    ]


def _hexadecimal(value: Any) -> str:
    return f"{value:#x}" if isinstance(value, int) else str(value)
