"""The matrix of bugs and kernels."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from pytest_memtype.bugs.matrix import Cell, combined, matrix, read_cells
from pytest_memtype.plugin.bugs import append_cells


def cell(bug: str, version: str, status: str) -> Cell:
    kernel = f"{version}-cloud-amd64"
    return Cell(bug, kernel, version, f"test_{bug}.py::test[{kernel}]", status, ("harm: seen",))


def printed(cells: list[Cell]) -> list[list[str]]:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(matrix(cells))
    return [line.split() for line in capture.get().splitlines() if line.strip() and "─" not in line]


def test_bugs_down_kernels_across_in_the_order_of_versions() -> None:
    cells = [
        cell("leak", "6.12.9", "ABSENT"),
        cell("leak", "6.1.10", "REPRODUCED"),
        cell("alias", "6.1.10", "FAILED"),
    ]
    assert printed(cells) == [
        ["bug", "6.1.10", "6.12.9"],
        ["alias", "FAILED", "-"],
        ["leak", "REPRODUCED", "ABSENT"],
    ]


def test_words_stay_whole_however_many_kernels() -> None:
    versions = [f"6.{minor}.100" for minor in range(11)]
    lines = printed([cell("set-memory-alias", version, "REPRODUCED") for version in versions])
    assert [line[1:] for line in lines] == [
        versions[:6],
        ["REPRODUCED"] * 6,
        versions[6:],
        ["REPRODUCED"] * 5,
    ]


@pytest.mark.parametrize(
    ("statuses", "word"),
    [
        (["ABSENT", "ABSENT"], "ABSENT"),
        (["REPRODUCED", "ABSENT"], "FAILED"),
        (["REPRODUCED", "FAILED"], "FAILED"),
        (["REPRODUCED", "SKIPPED"], "REPRODUCED"),
        (["SKIPPED", "SKIPPED"], "SKIPPED"),
    ],
)
def test_tests_of_one_bug_must_agree(statuses: list[str], word: str) -> None:
    assert combined([cell("leak", "6.1.10", status) for status in statuses]) == word


def test_cells_come_back_from_the_file(tmp_path: Path) -> None:
    one = cell("leak", "6.1.10", "ABSENT")
    append_cells(tmp_path / "bugs.jsonl", [one])
    assert read_cells(tmp_path / "bugs.jsonl") == [one]
    assert read_cells(tmp_path / "missing.jsonl") == []
