"""Puts one fault at a time into the guest's C code and says which test notices."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from memtype_support.mutants.mutant_catalogue import HOST_TESTS, Mutant, apply, catalogue
from pytest_memtype.host.program import run_to_end

_PROJECT = Path(__file__).resolve().parents[3]
_PARTS = (
    "framework",
    "guests",
    "kernels",
    "testcases",
    "conftest.py",
    "pyproject.toml",
    "LICENSE",
    "README.md",
)
# A loop without end in C is nothing that pytest-timeout can break.
_LIMIT_SECONDS = {True: 150, False: 900}
# What a mutant that is no C gives: no test noticed anything then.
_NOT_BUILT = "doesn't build"


@dataclass(frozen=True)
class Trial:
    """What became of a mutant.

    :param caught_by: The first test that failed; None when all passed.
    """

    mutant: Mutant
    caught_by: str | None
    seconds: float


class BrokenTrialError(Exception):
    """The tests said nothing about the mutant: it doesn't compile, or they fail without it as well."""


def copy_project(target: Path) -> None:
    """The project without what it has built."""
    for part in _PARTS:
        source = _PROJECT / part
        if source.is_dir():
            shutil.copytree(source, target / part, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            shutil.copyfile(source, target / part)


def failing_test(project: Path, tests: str) -> str | None:
    """Run tests of a copy of the project and name the first that fails.

    :raises BrokenTrialError: they could not be run.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--tb=short", tests]
    on_host = tests in HOST_TESTS
    if on_host:
        # What the shortest input is that shows it, nobody asks.
        command += ["--hypothesis-profile=unshrunk", "--hypothesis-seed=0"]
    try:
        done = run_to_end(
            command,
            cwd=project,
            env=os.environ | {"PYTHONPATH": str(project / "framework"), "PYTHONFAULTHANDLER": "1"},
            timeout=_LIMIT_SECONDS[on_host],
        )
    except subprocess.TimeoutExpired:
        return f"{tests} (without end)"
    if done.returncode == 0:
        return None
    if _NOT_BUILT in done.stdout:
        raise BrokenTrialError(done.stdout)
    if done.returncode < 0:
        running = re.search(r'File "[^"]*/(test_\w+\.py)", line \d+ in (test_\w+)', done.stdout)
        where = f"{running[1]}::{running[2]}" if running else tests
        return f"{where} (signal {-done.returncode})"
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    if failed is None:
        raise BrokenTrialError(done.stdout)
    return failed[1].rpartition("/")[2]


def attempt(mutant: Mutant) -> Trial:
    """Put the fault into a copy of the project and run the tests until one fails."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="memtype-mutant-") as folder:
        copy_project(Path(folder))
        apply(mutant, Path(folder) / "guests" / "module")
        caught_by = next(filter(None, (failing_test(Path(folder), tests) for tests in mutant.tests)), None)
    return Trial(mutant, caught_by, time.monotonic() - start)


def check_sound(mutants: list[Mutant]) -> None:
    """All that is to fail with a fault has to pass without one.

    :raises BrokenTrialError: it doesn't.
    """
    with tempfile.TemporaryDirectory(prefix="memtype-mutant-") as folder:
        copy_project(Path(folder))
        for tests in sorted({tests for mutant in mutants for tests in mutant.tests}):
            failed = failing_test(Path(folder), tests)
            if failed is not None:
                raise BrokenTrialError(f"{failed} fails without any mutant")


@click.command(help=__doc__)
@click.argument("names", nargs=-1)
@click.option("--host", "host_only", is_flag=True, help="Only the mutants that need no guest.")
def main(names: tuple[str, ...], host_only: bool) -> None:
    """Exit status 1 when a mutant survived."""
    eligible = [mutant for mutant in catalogue() if mutant.on_host or not host_only]
    unknown = set(names) - {mutant.name for mutant in eligible}
    if unknown:
        raise click.UsageError(f"no such mutant: {', '.join(sorted(unknown))}")
    mutants = [mutant for mutant in eligible if not names or mutant.name in names]
    trials = []
    try:
        check_sound(mutants)
        for mutant in mutants:
            trial = attempt(mutant)
            trials.append(trial)
            click.echo(f"{mutant.name}: {trial.caught_by or 'SURVIVED'}, {trial.seconds:.1f} s", err=True)
    except BrokenTrialError as error:
        raise click.ClickException(str(error)) from error
    table = Table(title="Mutants", title_justify="left")
    for column in ("mutant", "what", "caught by"):
        table.add_column(column, overflow="fold")
    table.add_column("s", justify="right")
    for trial in trials:
        mutant = trial.mutant
        table.add_row(mutant.name, mutant.fault, trial.caught_by or "nothing", f"{trial.seconds:.1f}")
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    survived = [trial.mutant.name for trial in trials if trial.caught_by is None]
    click.echo(f"{len(trials) - len(survived)} of {len(trials)} caught")
    if survived:
        raise click.ClickException(f"survived: {', '.join(survived)}")


if __name__ == "__main__":
    main()
