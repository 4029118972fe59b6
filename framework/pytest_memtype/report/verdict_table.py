"""The verdict table: what the verifier, Linux and the page table made of each pair of operations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.report.record import Record


@dataclass(frozen=True)
class Answer:
    """The verifier's verdict on a request, Linux's answer and the page table, as the table shows them.

    :param verifier: ``accepted``, the rule that refused it, or ``-`` in a guest without the module.
    :param linux: ``accepted``, ``refused``, ``not asked``, or ``substituted`` where the mapping was
        made with another type than the one asked for.
    :param page_table: The type in the page table, several with slashes between them, or ``-``.
    """

    verifier: str
    linux: str
    page_table: str

    @property
    def disagree(self) -> bool:
        """Do verifier and Linux differ? A substitution agrees with neither yes nor no."""
        if self.verifier == _NOBODY:
            return False
        agreed = ("accepted" if self.verifier == "accepted" else "refused", "not asked")
        return self.linux not in agreed


@dataclass
class Row:
    """Operations that were answered alike.

    :param where: Layout and hardware, ``"firmware"``, ``"firmware, cpu=Nehalem"``.
    :param first: What was mapped already, ``"ioremap WC"``, ``"nothing"``, ``"nothing (RAM)"``.
    :param asked: The calls that were made, each with the types it asked for.
    :param count: How many operations of the run this row stands for.
    """

    where: str
    first: str
    answer: Answer
    asked: dict[str, list[str]] = field(default_factory=dict)
    count: int = 0


_NOBODY = "-"
"""Stands for the verdict in a guest without the module."""


def answer(record: Record) -> Answer:
    """The verdict, Linux's answer and the page table in a record of a mapping request."""
    verdict, kernel = record["verdict"], record["kernel_answer"]
    granted = record["granted"]
    if not kernel["asked"]:
        linux = "not asked"
    elif not kernel["accepted"]:
        linux = "refused"
    else:
        # No type is another type: a reservation has no page table, and a page may come when touched.
        types = {*granted} if isinstance(granted, list) else {granted}
        linux = "accepted" if types <= {None, record["requested"]} else "substituted"
    judged = _NOBODY if verdict is None else "accepted" if verdict["accepted"] else verdict["rule"]
    return Answer(
        verifier=judged,
        linux=linux,
        page_table="/".join(map(str, granted)) if isinstance(granted, list) else granted or "-",
    )


def rows(records: Iterable[Record]) -> list[Row]:
    """The rows of a run: by layout and hardware, then by what was mapped already, in the order of the run."""
    found: dict[tuple[str, str, Answer], Row] = {}
    for record in records:
        if "kernel_answer" not in record:
            continue
        first, where, given = mapped_already(record), _where(record), answer(record)
        row = found.setdefault((where, first, given), Row(where, first, given))
        row.count += 1
        types = row.asked.setdefault(record["operation"], [])
        if record["requested"] not in types:
            types.append(record["requested"])
    return sorted(found.values(), key=lambda row: (row.where, not row.first.startswith("nothing"), row.first))


def verdict_table(kernel: str, records: Iterable[Record]) -> Group:
    """The tables of a kernel's records: one for each layout and hardware.

    ≠ marks where verifier and Linux disagree.
    """
    by_guest: dict[str, list[Row]] = {}
    for row in rows(records):
        by_guest.setdefault(row.where, []).append(row)
    return Group(*(_table(kernel, where, its) for where, its in by_guest.items()))


def mapped_already(record: Record) -> str:
    """The mappings that a test had of the memory of a request: ``mmap sysfs WC``, or ``nothing (RAM)``."""
    words = " + ".join(map(str, record["beside"])) or "nothing"
    return f"{words} (RAM)" if record["memory"] == "ram" else words


def hardware_words(hardware: Mapping[str, Any]) -> str:
    """The hardware of a guest as far as it isn't the default, ``cpu=Nehalem, cpus=2``; else empty."""
    usual = asdict(Hardware())
    # A record that was read has lists where a guest has tuples.
    plain = {name: tuple(value) if isinstance(value, list) else value for name, value in hardware.items()}
    return ", ".join(
        f"{name}={' '.join(map(str, value)) if isinstance(value, tuple) else value}"
        for name, value in plain.items()
        if value != usual.get(name)
    )


def _where(record: Record) -> str:
    """The layout of a record, and the hardware as far as it isn't what a guest has by default."""
    return ", ".join(filter(None, [record["layout"], hardware_words(record.get("hardware", {}))]))


def _table(kernel: str, where: str, its_rows: list[Row]) -> Table:
    table = Table(
        title=Text(f"{kernel}, layout {where}", style="bold"),
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("mapped already", max_width=16)
    table.add_column("then asked for", min_width=34, max_width=60)
    table.add_column("verifier", no_wrap=True)
    table.add_column("Linux", no_wrap=True)
    # A type for each page, where they differ.
    table.add_column("page table", max_width=24, overflow="fold")
    table.add_column("", no_wrap=True)
    table.add_column("times", justify="right", no_wrap=True)
    first = None
    for row in its_rows:
        table.add_row(
            row.first if row.first != first else "",
            "; ".join(f"{call} {' '.join(types)}" for call, types in row.asked.items()),
            _coloured(row.answer.verifier),
            _coloured(row.answer.linux),
            row.answer.page_table,
            Text("≠", style="bold yellow") if row.answer.disagree else "",
            str(row.count),
        )
        first = row.first
    return table


def _coloured(word: str) -> Text:
    colours = {"accepted": "green", "substituted": "yellow", "not asked": "dim", _NOBODY: "dim"}
    return Text(word, style=colours.get(word, "red"))


def summary(records: Iterable[Record]) -> str:
    """Count the requests for mappings, the refused ones, and the disagreements, in one line."""
    answers = [answer(record) for record in records if "kernel_answer" in record]
    disagree = sum(each.disagree for each in answers)
    refused = sum(each.verifier not in ("accepted", _NOBODY) for each in answers)
    return (
        f"{len(answers)} mappings asked for; the verifier refused {refused}; "
        f"verifier and Linux disagree on {disagree} (≠)"
    )


def notes(records: Iterable[Record]) -> list[str]:
    """Remarks on the guests of a run: the accelerator and why, and how many tests a clone failed for."""
    accelerators: dict[str, str] = {}
    boots: dict[str, set[str]] = {}
    qemus: set[str] = set()
    for record in records:
        qemus.add(str(record.get("qemu", "unknown")))
        accelerators[record["accelerator"]] = record["accelerator_reason"]
        if record["boot"] not in ("clone", "boot"):
            boots.setdefault(record["boot"], set()).add(record["test"])
    lines = [f"accelerator: {name} ({reason})" for name, reason in accelerators.items()]
    if len(qemus) > 1:
        lines.append(f"several versions of QEMU ran guests: {', '.join(sorted(qemus))}")
    lines += [f"{len(tests)} tests ran on a {how}" for how, tests in boots.items()]
    return lines
