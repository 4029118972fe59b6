"""A record as a question and its answers, in words that mean the same on every kernel."""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from pytest_memtype.report.page_types import page_types, run
from pytest_memtype.report.record import Record

KERNEL, VERIFIER, EFFECTIVE = "kernel", "verifier", "effective"
"""The sides that answer: what Linux did or keeps, the verdict, and what the MTRRs make of the type."""

_ELSEWHERE = ("handle", "start", "address")
"""Arguments that differ in every guest."""

_OF_HOST = {"load": "source", "put": "path"}
"""Arguments that are files of the host, by operation: their folder is another one on each."""

_PAGE = 4096

_PROCESS = re.compile(r"(/proc/|\bkill (?:-\w+ )?)\d+")


def question(record: Record) -> str:
    """The operation of a record, in words: ``"mmap sysfs UC- of 4 pages"``."""
    words = [record["operation"]]
    if "requested" in record:
        pages = record["region"]["pages"]
        words += [record["requested"], f"of {pages} page{'s' if pages != 1 else ''}"]
        if record.get("memory") == "ram":
            words.append("of RAM")
    elif record["operation"] == "shell":
        # A process has another id in each guest.
        words.append(_PROCESS.sub(r"\1PID", record["arguments"]["command"]))
    else:
        arguments = dict(record.get("arguments", {}))
        file = _OF_HOST.get(record["operation"])
        if file in arguments:
            arguments[file] = PurePath(str(arguments[file])).name
        words += [f"{name}={value}" for name, value in arguments.items() if name not in _ELSEWHERE]
    return " ".join(words)


def answers(record: Record) -> dict[str, str]:
    """The answer of each side to the operation of a record, in words.

    A side that wasn't there, such as the verifier of a guest without the module, is missing.
    """
    if "requested" not in record:
        seen = _seen(record)
        return {} if seen is None else {KERNEL: seen}
    verdict = record["verdict"]
    found = {} if verdict is None else {VERIFIER: _verdict(verdict)}
    if "kernel_answer" in record:
        found[KERNEL] = linux_answer(record["kernel_answer"], record["granted"])
        if verdict is not None and record["effective"] is not None:
            found[EFFECTIVE] = page_types(record["effective"])
    return found


def linux_answer(answer: Mapping[str, Any], granted: str | Sequence[str | None] | None) -> str:
    """Linux's answer to a request: an errno, the type granted, or ``accepted`` without a page table."""
    if not answer["asked"]:
        return "not asked"
    if not answer["accepted"]:
        return errno_name(answer["errno"])
    return page_types(granted) if granted else "accepted"


def errno_name(number: int) -> str:
    """The name of an errno, such as ``ENOMEM``; ``ok`` for 0."""
    return errno.errorcode.get(number, str(number)) if number else "ok"


def reservations(entries: Sequence[Sequence[Any]], start: int) -> str:
    """Entries ``[start, pages, type]`` of the kernel's list in words, with pages counted from ``start``.

    :param entries: The entries, whose ``start`` is a physical address.
    :param start: Physical address of the page that is counted as 0.
    """
    if not entries:
        return "nothing"
    return ", ".join(run((each - start) // _PAGE, pages, memtype) for each, pages, memtype in entries)


def _seen(record: Record) -> str | None:
    """The result of an operation; None where it can't be compared, such as the output of a shell command."""
    result = record.get("result")
    if result == "died":
        return "died"
    match record["operation"]:
        case "memtype_list" if "start" in record["arguments"]:
            return "no list" if result is None else reservations(result, record["arguments"]["start"])
        case "registers" | "registers_outside":
            return "; ".join(dict.fromkeys(result or ()))
        case "page_table":
            return page_types(result or ())
        case "read" | "write":
            signal = (result or {}).get("signal")
            return f"signal {signal}" if signal else "ok"
        case "lookup":
            return str(result)
        case "get":
            # How long a file is: as little an answer as the output of a command.
            return None
    if isinstance(result, int):
        return errno_name(result)
    return result if isinstance(result, str) else None


def _verdict(verdict: Mapping[str, Any]) -> str:
    words = "accepted" if verdict["accepted"] else f"{errno_name(verdict['errno'])} {verdict['rule']}"
    conflict = verdict["conflict"]
    if conflict is not None:
        # RAM is somewhere else in every run.
        words += f" ({conflict['kind']} {conflict['owner']} {conflict['memtype']} {conflict['pages']})"
    return " ".join((words, *verdict["hazards"]))
