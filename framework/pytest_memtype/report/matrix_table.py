"""The measured matrix of MTRR types and requests, beside the manual's table."""

from __future__ import annotations

import json
from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from pytest_memtype.report.matrix import MTRR_ROWS, REQUESTED, Cell, Matrix
from pytest_memtype.x86.effective import Vendor

_MANUALS = {
    Vendor.INTEL: "Intel SDM vol. 3, effective page-level memory types",
    Vendor.AMD: "AMD APM vol. 2, combined effect of MTRRs and PAT",
}


def table(matrix: Matrix) -> Group:
    """Draw the matrix for a terminal: what was granted and is effective, and below it the manual's type."""
    drawn = Table(box=SIMPLE_HEAD, title_justify="left")
    drawn.add_column("MTRR", style="bold", no_wrap=True)
    drawn.add_column("", no_wrap=True)
    for requested in REQUESTED:
        drawn.add_column(f"asked {requested}", no_wrap=True)
    for mtrr in MTRR_ROWS:
        row = [cell for cell in matrix.cells if cell.mtrr is mtrr]
        drawn.add_row(str(mtrr), "measured", *(_measured(cell) for cell in row))
        drawn.add_row("", Text("manual", style="dim"), *(Text(str(cell.manual), style="dim") for cell in row))
    differing = sum(cell.differs for cell in matrix.cells)
    return Group(
        Text(f"{matrix.kernel}, {matrix.way}: granted → effective", style="bold"),
        drawn,
        Text(f"{differing} of {len(matrix.cells)} differ (≠) from {_MANUALS[matrix.vendor]}"),
    )


def _measured(cell: Cell) -> Text:
    if cell.granted is None:
        return Text("refused ≠", style="bold red")
    text = Text(f"{cell.granted} → {cell.effective}")
    if cell.differs:
        text.append(" ≠", style="bold red")
    return text


def as_json(matrices: Iterable[Matrix]) -> str:
    """Matrices as JSON for programs: a list with an object for each cell.

    ``granted`` and ``effective`` are ``null`` where the kernel refused.
    """
    return json.dumps(
        [
            {
                "kernel": matrix.kernel,
                "vendor": matrix.vendor.value,
                "way": matrix.way,
                "mtrr": str(cell.mtrr),
                "requested": str(cell.requested),
                "granted": None if cell.granted is None else str(cell.granted),
                "effective": None if cell.effective is None else str(cell.effective),
                "manual": str(cell.manual),
                "differs": cell.differs,
            }
            for matrix in matrices
            for cell in matrix.cells
        ],
        indent=1,
    )
