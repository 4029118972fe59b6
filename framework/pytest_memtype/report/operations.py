"""Records as a person reads them: one line for each operation, with the answers and the kernel's messages."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from typing import Any

from pytest_memtype.guest.region import Region
from pytest_memtype.report.record import Record


def told(records: Iterable[Record]) -> Iterator[str]:
    """Tell the operations in their order: a line for each, then a line for each message of the kernel."""
    for record in records:
        yield f"{record['step']:3} {_operation(record)}"
        for line in record["log"]:
            yield f"      log: {line}"


def _operation(record: Record) -> str:
    actor, operation = record["actor"], record["operation"]
    if "region" in record:
        region = Region(**record["region"])
        verdict = record["verdict"]
        said = "not asked" if verdict is None else _answer(verdict["accepted"], verdict["errno"])
        rule = f" {verdict['rule']}" if verdict and verdict["rule"] else ""
        asked = f"{actor}: {operation} {record['requested']} {region}: verifier {said}{rule}"
        if "kernel_answer" not in record:
            return asked
        kernel = record["kernel_answer"]
        linux = _answer(kernel["accepted"], kernel["errno"]) if kernel["asked"] else "not asked"
        return f"{asked}, Linux {linux}, page table {_types(record['granted'])}"
    arguments = ", ".join(f"{name}={value}" for name, value in record["arguments"].items())
    return f"{actor}: {operation}({arguments}){_result(record['result'])}"


def _result(result: Any) -> str:
    if result is None:
        return ""
    # A number is an errno: 0 where nothing was wrong.
    return f" -> {errno.errorcode.get(result, result)}" if isinstance(result, int) else f" -> {result}"


def _answer(accepted: bool, error: int) -> str:
    return "accepted" if accepted else errno.errorcode.get(error, str(error))


def _types(granted: Any) -> str:
    if isinstance(granted, list):
        return " ".join(each or "-" for each in granted)
    return granted or "-"
