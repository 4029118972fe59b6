"""The matrix of bugs and kernels: what came of each reproducer, bugs down, kernels across."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from pytest_memtype.errors import UsageError
from pytest_memtype.host.files import read_file
from pytest_memtype.report.record import plain

_COLOURS = {"REPRODUCED": "yellow", "ABSENT": "green", "FAILED": "red"}
_FLAVOUR = "-cloud-amd64"
# This many kernels fit beside the bugs without a break in their words.
_ACROSS = 6
# Bytes; the suite's reproducers leave 10 KiB for each kernel.
_LARGEST: Final = 1 << 26


@dataclass(frozen=True)
class Cell:
    """The result of a test of a bug on one kernel.

    :param bug: The bug's id.
    :param kernel: The kernel's release.
    :param version: The upstream version.
    :param test: pytest's node id.
    :param status: ``REPRODUCED``, ``ABSENT``, ``FAILED``, or ``SKIPPED``: the kernel has no module.
    :param evidence: What was seen, in words.
    """

    bug: str
    kernel: str
    version: str
    test: str
    status: str
    evidence: tuple[str, ...]


def read_cells(path: Path) -> list[Cell]:
    """The cells of a run, read from its file; none if it reproduced nothing.

    :param path: The file, which may be anybody's: its texts can go to any terminal.
    :raises UsageError: it can't be read, or holds something else.
    """
    if not path.exists():
        return []
    try:
        lines = msgspec.json.Decoder().decode_lines(read_file(path, most=_LARGEST))
        return msgspec.convert(plain(lines), list[Cell])
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: doesn't hold results of reproducers ({error})") from None


def kernels_of(cells: Iterable[Cell]) -> list[str]:
    """The kernels of some cells, each once, in the order of their versions."""
    return [kernel for _, kernel in sorted({(number_of(cell.version), cell.kernel) for cell in cells})]


def cells_of(cells: Iterable[Cell], bug: str, kernel: str) -> list[Cell]:
    """The cells of one bug on one kernel, of which each test has one."""
    return [cell for cell in cells if (cell.bug, cell.kernel) == (bug, kernel)]


def combined(cells: Iterable[Cell]) -> str:
    """A single word for several tests of one bug on one kernel: those that could be run must agree."""
    statuses = {cell.status for cell in cells}
    if not statuses:
        return "-"
    if statuses != {"SKIPPED"}:
        statuses.discard("SKIPPED")
    return statuses.pop() if len(statuses) == 1 else "FAILED"


def matrix(cells: Iterable[Cell]) -> Group:
    """Draw the matrix: a row for each bug, a column for each kernel, in the order of their versions.

    Where there are more kernels than columns in a line, the others follow below.
    """
    cells = list(cells)
    kernels = kernels_of(cells)
    across = [kernels[first : first + _ACROSS] for first in range(0, len(kernels), _ACROSS)]
    return Group(*(_part(cells, some) for some in across))


def _part(cells: Sequence[Cell], kernels: Sequence[str]) -> Table:
    table = Table(box=SIMPLE_HEAD, header_style="bold")
    table.add_column("bug", no_wrap=True)
    for kernel in kernels:
        table.add_column(kernel.removesuffix(_FLAVOUR), overflow="fold")
    for bug in sorted({cell.bug for cell in cells}):
        row = []
        for kernel in kernels:
            word = combined(cells_of(cells, bug, kernel))
            row.append(Text(word, _COLOURS.get(word, "dim")))
        table.add_row(bug, *row)
    return table


def number_of(version: str) -> tuple[int, ...]:
    """The numbers of a cell's version, in which a part that is no number is 0."""
    # The file of a run may be anybody's, and Python reads no number of 5,000 digits.
    return tuple(int(part) if part.isdecimal() and len(part) < 10 else 0 for part in version.split("."))
