"""The differences between kernels, as a table for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from pytest_memtype.report.compare import Change, Column, changes, differences
from pytest_memtype.report.job_summary import code
from pytest_memtype.report.record import Record, apart, tested


def between_kernels(records: Sequence[Record]) -> list[Text | Table]:
    """A heading and the table of a run's kernels; nothing when they don't differ."""
    columns = [Column(*each) for each in apart(records, tested).items()]
    names = [column.name for column in columns]
    found = changes(differences(columns))
    return [Text("What differs between the kernels"), compare_table(names, found)] if found else []


def compare_table(names: Sequence[str], found: Sequence[Change]) -> Table:
    """A row for each change: the operation, the answer under each kernel, how often, and an example."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("operation", overflow="fold", min_width=16)
    for name in names:
        table.add_column(Text(short(name)), overflow="fold", min_width=8)
    table.add_column("times", justify="right", no_wrap=True)
    table.add_column("example", overflow="fold", min_width=16)
    for change in found:
        cells = [change.operation, *change.answers, str(len(change.differences)), example(change)]
        table.add_row(*map(Text, cells))
    return table


def markdown(names: Sequence[str], found: Sequence[Change]) -> str:
    """The table of changes in Markdown: a row for each, as in :func:`compare_table`."""
    head = ["operation", *map(short, names), "times", "example"]
    rows = [
        [
            *map(escaped, (change.operation, *change.answers, str(len(change.differences)))),
            code(example(change)),
        ]
        for change in found
    ]
    lines = [[*map(escaped, head)], ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def escaped(text: str) -> str:
    """A text for Markdown, which may be somebody else's: in one line, no cell more, no HTML, no link."""
    text = " ".join(text.split())
    return text.replace("|", "\\|").replace("<", "&lt;").replace("](", "]\\(")


def as_json(names: Sequence[str], found: Sequence[Change]) -> list[dict[str, Any]]:
    """The changes as lists and dictionaries, for JSON."""
    return [
        {
            "operation": change.operation,
            "answers": dict(zip(names, change.answers, strict=True)),
            "times": len(change.differences),
            "tests": change.cases,
            "example": {
                "test": change.differences[0].case,
                "guest": change.differences[0].guest,
                "step": change.differences[0].step,
            },
        }
        for change in found
    ]


def short(name: str) -> str:
    """A kernel's name without what is the same for all: ``6.1.0-56``."""
    return name.removeprefix("debian:").replace("-cloud-amd64", "")


def example(change: Change) -> str:
    """An example of a change: the test, without its folder, and the step."""
    first = change.differences[0]
    return f"{first.case.rpartition('/')[2]} step {first.step}"
