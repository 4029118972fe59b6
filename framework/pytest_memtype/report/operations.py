"""Records as a person reads them: one line for each operation, with the answers and the kernel's messages."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Final

from pytest_memtype.guest.region import Region, together
from pytest_memtype.report.answer import errno_name, linux_answer
from pytest_memtype.report.record import Record, where_of
from pytest_memtype.report.verdict_table import hardware_words

_SCREEN: Final = 12
"""Lines of operations that are shown of a test that failed."""
_AFTER: Final = 2
_MOST_MESSAGES: Final = 3


def told(records: Iterable[Record]) -> Iterator[str]:
    """Tell the operations in their order: a line for each, then a line for each message of the kernel."""
    for record in records:
        yield f"{record['step']:3} {_operation(record)}"
        for line in record["log"]:
            yield f"      log: {line}"


def told_of_failure(records: Sequence[Record], failing: Collection[int]) -> list[str]:
    """The operations of a failed test, in at most a screen: ``>`` is before those that failed it.

    Below such a line are the first messages of the kernel meanwhile.

    :param records: The records of one guest.
    :param failing: Steps of the operations that the failure is about.
    """
    marked = [at for at, record in enumerate(records) if record["step"] in failing]
    end = min(len(records), (marked[-1] if marked else len(records)) + 1 + _AFTER)
    first = max(0, end - _SCREEN)
    shown = [at for at in marked if at < first][-_AFTER:] + list(range(first, end))
    lines: list[str] = []
    for before, at in zip([-1, *shown], shown, strict=False):
        if at > before + 1:
            lines.append(f"      ({_counted(at - before - 1)} before)")
        record = records[at]
        lines.append(f"{'>' if at in marked else ' '} {record['step']:3} {_operation(record)}")
        if at in marked:
            lines += [f"      log: {line}" for line in record["log"][:_MOST_MESSAGES]]
    if end < len(records):
        lines.append(f"      ({_counted(len(records) - end)} after)")
    return lines


def told_of_guest(guest: Record) -> str:
    """The guest of a failed test: its kernel, layout, hardware, QEMU and how it was started.

    :param guest: What each record of the guest has.
    """
    qemu = "" if guest["qemu"] == "none" else f"QEMU {guest['qemu']} ({guest['accelerator']})"
    layout = f"layout {guest['layout']}"
    parts = [f"Linux {where_of(guest)}", layout, hardware_words(guest["hardware"]), qemu, guest["boot"]]
    return ", ".join(filter(None, parts))


def _counted(number: int) -> str:
    return f"{number} operation{'s' if number > 1 else ''}"


def _operation(record: Record) -> str:
    """A record in the words of ``str(outcome)``."""
    actor, operation = record["actor"], record["operation"]
    if "region" in record:
        region = _region(record["region"])
        asked = f"{actor} {operation} {record['requested']} {region}: verifier {_verdict(record['verdict'])}"
        if "kernel_answer" not in record:
            return asked
        linux = linux_answer(record["kernel_answer"], None)
        return f"{asked}, kernel {linux}, page table {_types(record['granted'])}"
    arguments = ", ".join(f"{name}={_shown(value)}" for name, value in record["arguments"].items())
    return f"{actor} {operation}({arguments}){_result(record['result'])}"


def _region(region: dict[str, Any]) -> Region:
    whole = (region["start"], region["pages"])
    return together(Region(start, pages) for start, pages in region.get("pieces", [whole]))


def _verdict(verdict: dict[str, Any] | None) -> str:
    if verdict is None:
        return "-"
    if verdict["accepted"]:
        hazards = verdict.get("hazards")
        return f"accepted ({', '.join(hazards)})" if hazards else "accepted"
    said = f"{errno_name(verdict['errno'])} {verdict['rule']}"
    conflict = verdict.get("conflict")
    if not conflict:
        return said
    region = Region(conflict["start"], conflict["pages"])
    return f"{said} with {conflict['owner']}: {conflict['memtype']} {region}"


def _shown(value: Any) -> str:
    # Addresses are the larger ones.
    return f"{value:#x}" if isinstance(value, int) and value >= 1 << 16 else str(value)


def _result(result: Any) -> str:
    if result is None:
        return ""
    return f" -> {errno_name(result) if isinstance(result, int) else result}"


def _types(granted: Any) -> str:
    if isinstance(granted, list):
        return "/".join(dict.fromkeys(each or "-" for each in granted))
    return granted or "-"
