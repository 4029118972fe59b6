"""The matrix, as a terminal and a program get it."""

from __future__ import annotations

import io
import json
from itertools import product

from rich.console import Console

from pytest_memtype.report.matrix import MTRR_ROWS, REQUESTED, Cell, Matrix
from pytest_memtype.report.matrix_table import as_json, table
from pytest_memtype.x86.effective import EffectiveType, Vendor
from pytest_memtype.x86.memtype import MemType


def cell(mtrr: MemType, requested: MemType) -> Cell:
    """Everything is uncached but for one refusal, and the manual says so but for one cell."""
    uncached = EffectiveType.UC
    if (mtrr, requested) == (MemType.WP, MemType.WC):
        return Cell(mtrr, requested, None, None, EffectiveType.WC)
    if (mtrr, requested) == (MemType.WT, MemType.WB):
        return Cell(mtrr, requested, MemType.UC_MINUS, uncached, EffectiveType.WT)
    return Cell(mtrr, requested, MemType.UC, uncached, uncached)


MATRIX = Matrix(
    "6.1.0-[bold]x", Vendor.INTEL, "ioremap", tuple(cell(*each) for each in product(MTRR_ROWS, REQUESTED))
)


def test_table() -> None:
    output = io.StringIO()
    Console(file=output, width=200, color_system=None).print(table(MATRIX))
    lines = output.getvalue().splitlines()

    assert lines[0].strip() == "6.1.0-[bold]x, ioremap: granted → effective"
    assert [line.split()[0] for line in lines if "measured" in line] == ["UC", "WC", "WT", "WP", "WB"]
    (write_through,) = (line for line in lines if line.split()[:2] == ["WT", "measured"])
    assert write_through.split()[2:] == ["UC", "→", "UC"] * 5 + ["UC-", "→", "UC", "≠"]
    assert lines[lines.index(write_through) + 1].split() == ["manual", *["UC"] * 5, "WT"]
    assert sum("refused ≠" in line for line in lines) == 1
    assert lines[-1].strip() == "2 of 30 differ (≠) from Intel SDM vol. 3, effective page-level memory types"


def test_json() -> None:
    cells = json.loads(as_json([MATRIX, MATRIX]))
    assert len(cells) == 60
    assert [each for each in cells if each["differs"]][:2] == [
        {
            "kernel": "6.1.0-[bold]x",
            "vendor": "GenuineIntel",
            "way": "ioremap",
            "mtrr": "WT",
            "requested": "WB",
            "granted": "UC-",
            "effective": "UC",
            "manual": "WT",
            "differs": True,
        },
        {
            "kernel": "6.1.0-[bold]x",
            "vendor": "GenuineIntel",
            "way": "ioremap",
            "mtrr": "WP",
            "requested": "WC",
            "granted": None,
            "effective": None,
            "manual": "WC",
            "differs": True,
        },
    ]
