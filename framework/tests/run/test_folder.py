from __future__ import annotations

import os
from pathlib import Path

from pytest_memtype.run.folder import KEPT_RUNS, hold, new_run
from pytest_memtype.run.folder import test_folder as folder_of_test


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_newest_runs_stay(tmp_path: Path) -> None:
    base = tmp_path / ".memtype"
    made = [new_run(base, f"20261123-0407{second:02}-4711") for second in range(KEPT_RUNS + 2)]
    assert names(base / "runs") == {path.name for path in made[2:]}
    assert (base / "latest").resolve() == made[-1].resolve()
    assert (base / ".gitignore").read_text() == "*\n"


def test_what_is_somebody_elses_stays(tmp_path: Path) -> None:
    """``--memtype-dir`` may name a folder that the user has, with a folder ``runs`` in it."""
    theirs = {"2024", "analysis", "20261122-040712-4711-copy", *(f"baseline-{n}" for n in range(KEPT_RUNS))}
    for name in theirs:
        (tmp_path / "runs" / name).mkdir(parents=True)
    made = [new_run(tmp_path, f"20261123-0407{second:02}-4711") for second in range(KEPT_RUNS + 1)]
    assert names(tmp_path / "runs") == theirs | {path.name for path in made[1:]}
    assert names(tmp_path) == {"runs", "latest"}


def test_a_link_that_a_killed_run_left(tmp_path: Path) -> None:
    """It may have had our number: those are given out again."""
    (tmp_path / f"latest.{os.getpid()}").symlink_to("runs/20261122-040712-4711")
    made = new_run(tmp_path, "20261123-040712-4711")
    assert (tmp_path / "latest").resolve() == made.resolve()
    assert names(made) == set()


def test_a_clock_that_was_set_back(tmp_path: Path) -> None:
    for second in range(KEPT_RUNS):
        new_run(tmp_path, f"20261123-0407{second:02}-4711")
    assert new_run(tmp_path, "20251123-040700-4711").is_dir()


def test_the_run_that_is_resumed_stays(tmp_path: Path) -> None:
    """Its journal is read after the new run's folder was made."""
    made = [new_run(tmp_path, f"20261123-0407{second:02}-4711") for second in range(KEPT_RUNS)]
    new = new_run(tmp_path, "20261123-040800-4711", resumed=made[0].resolve())
    assert names(tmp_path / "runs") == {path.name for path in (*made, new)}
    newer = new_run(tmp_path, "20261123-040801-4711")
    assert names(tmp_path / "runs") == {path.name for path in (*made[2:], new, newer)}


def test_a_run_that_still_runs_stays(tmp_path: Path) -> None:
    """A long one in one terminal, and ten short ones in another."""
    long = new_run(tmp_path, "20261123-040000-4711")
    held = hold(long)
    made = [new_run(tmp_path, f"20261123-0407{second:02}-4711") for second in range(KEPT_RUNS + 1)]
    assert names(tmp_path / "runs") == {path.name for path in (long, *made[1:])}
    os.close(held)
    newest = new_run(tmp_path, "20261123-040800-4711")
    assert names(tmp_path / "runs") == {path.name for path in (*made[2:], newest)}


def test_the_folder_of_a_test_outside_of_the_root_folder_is_not_hidden(tmp_path: Path) -> None:
    name = folder_of_test(tmp_path, "../others/a/test_it.py::test_it[x.]").name
    assert name.startswith("others-a-test_it.py-test_it-x.-")
