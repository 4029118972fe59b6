"""``memtype bugs`` where earlier runs have left little, or something else than they should."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from pytest_memtype.bugs import catalogue
from pytest_memtype.cli import main
from pytest_memtype.commands import bugs

BUG = "fork-frees-parents"
TEST = "test_it.py::test_it[debian:6.1]"


def cell(**other: Any) -> dict[str, Any]:
    one = {"bug": BUG, "kernel": "6.1.0-1-cloud-amd64", "version": "6.1.5", "test": TEST}
    return {**one, "status": "REPRODUCED", "evidence": ["harm: seen"], **other}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an earlier run in the current folder."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / ".memtype" / "runs" / "20261201-000000-1"
    folder.mkdir(parents=True)
    return folder


def left(run: Path, *cells: dict[str, Any]) -> None:
    (run / "bugs.jsonl").write_text("".join(json.dumps(each) + "\n" for each in cells))


def memtype(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["bugs", *arguments])


@pytest.mark.parametrize("arguments", [(), ("show", BUG)])
@pytest.mark.parametrize("content", ["{half", "[]", '{"bug": 5}', "[" * 100_000])
def test_a_damaged_file_is_one_line(run: Path, arguments: tuple[str, ...], content: str) -> None:
    (run / "bugs.jsonl").write_text(content)
    done = memtype(*arguments)
    assert done.exit_code == 2, done.exception
    assert f"{run / 'bugs.jsonl'}: doesn't hold results of reproducers" in done.stderr


def test_a_version_that_is_none(run: Path) -> None:
    left(run, cell(version="unknown"))
    assert memtype().exit_code == 0


def test_the_last_result_stands_beside_what_is_known(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = SimpleNamespace(version="6.1.5-1")
    monkeypatch.setattr(bugs, "cached", lambda: [SimpleNamespace(kernel=kernel)])
    left(run, cell())
    assert re.search(rf"{BUG} +[●○]R ", memtype().output)


@pytest.fixture(scope="module")
def suites() -> list[catalogue.Reproducer]:
    """To read them takes a second."""
    return catalogue.catalogue()


@pytest.mark.parametrize("width", [60, 80, 100, 250])
@pytest.mark.parametrize("number", [0, 1, 3, 4, 8, 12, 20])
def test_titles_can_be_read_however_many_kernels(
    number: int, width: int, suites: list[catalogue.Reproducer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bugs, "known_here", lambda: (suites, []))
    versions = [f"5.10.{200 + each}-1" for each in range(number)]
    monkeypatch.setattr(
        bugs, "cached", lambda: [SimpleNamespace(kernel=SimpleNamespace(version=each)) for each in versions]
    )
    tables, _ = bugs.listing(width=width)
    console = Console(width=width)
    with console.capture() as capture:
        for table in tables:
            console.print(table)
    text = capture.get()
    assert max(map(len, text.splitlines())) <= width
    # No word of a title is broken, and none is cut.
    assert {word for each in suites for word in each.bug.title.split()} <= set(text.split())
    assert "…" not in text
    marks = re.findall(r"[●○]", "".join(line for line in text.splitlines() if line.startswith(f" {BUG}")))
    assert len(marks) == number
    # A title takes no more than three lines.
    assert len(text.splitlines()) <= len(suites) * (2 + len(tables)) + 2 * len(tables)


def test_a_test_that_was_skipped_has_no_records(run: Path) -> None:
    left(run, cell(status="SKIPPED", evidence=[]))
    done = memtype("show", BUG)
    assert done.exit_code == 0, done.output
    assert f"6.1.0-1-cloud-amd64 (6.1.5): SKIPPED, {TEST}" in done.stdout


def test_records_that_make_no_sense(run: Path) -> None:
    left(run, cell())
    record = {"schema": 2, "kernel": "k", "kernel_version": "6.1", "hardware": {}, "test": TEST}
    record |= {"tested": "k", "case": "t", "guest": 1, "step": 1, "operation": "fork", "actor": "X"}
    (run / "records.jsonl").write_text(json.dumps(record | {"arguments": {}}) + "\n")
    done = memtype("show", BUG)
    assert done.exit_code == 2, done.exception
    assert f"{run}: a record makes no sense (KeyError: 'result')" in done.stderr


def test_words_of_others_move_no_cursor(run: Path) -> None:
    left(run, cell(kernel="\x1b[2J", evidence=["\x1b]0;mine\a"]))
    done = memtype("show", BUG)
    assert done.exit_code == 0, done.output
    assert "\x1b" not in done.stdout
    assert r"\x1b[2J" in done.stdout


@pytest.mark.parametrize("status", [0, 1, 3])
@pytest.mark.usefixtures("run")
def test_show_says_that_it_runs_the_test(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """The end status is the run's: nothing was shown of a host that can't run guests."""
    said: list[str] = []

    def run_suite(_: list[str]) -> int:
        said.append("run")
        return status

    monkeypatch.setattr(bugs, "run_suite", run_suite)
    assert bugs.show(BUG, None, say=said.append) == status
    assert said[-1] == "run"
    assert said[-2].startswith("There is no record of it in this folder, so it is run now in QEMU")


def test_show_of_a_kernel_of_ones_own(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bugs, "find_local", lambda _: SimpleNamespace(release="6.12.0-mine"))
    left(run, cell(kernel="6.12.0-mine"), cell(test="test_of_another_kernel"))
    done = memtype("show", BUG, "--kernel", "tree:/linux")
    assert done.exit_code == 0, done.output
    assert f"6.12.0-mine (6.1.5): REPRODUCED, {TEST}" in done.stdout
    assert "test_of_another_kernel" not in done.stdout


@pytest.mark.usefixtures("run")
def test_names_of_bugs_are_looked_up_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the reproducers takes a second, and would for each name."""
    times: list[Path | None] = []
    read_all = catalogue.catalogue

    def counted(folder: Path | None = None) -> list[catalogue.Reproducer]:
        times.append(folder)
        return read_all(folder)

    monkeypatch.setattr(catalogue, "catalogue", counted)
    arguments: list[str] = []

    def run_suite(given: list[str]) -> int:
        arguments.extend(given)
        return 0

    monkeypatch.setattr(bugs, "run_suite", run_suite)
    assert bugs.run(["wb-first", BUG, "wb-first"], ["debian:6.1"]) == 0
    assert len(times) == 1
    assert [Path(each).name for each in arguments[:3]] == [
        "test_write_back_first_ioremap_refused.py",
        "test_fork_frees_the_parents_reservation.py",
        "test_write_back_first_ioremap_refused.py",
    ]
