"""The command ``memtype coverage``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pytest_memtype.commands.offline import offline


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--kernel", required=True, metavar="SPEC", help="The kernel: tree:PATH, built with GCOV.")
@click.option("--from", "run", type=click.Path(path_type=Path), metavar="RUN", help="Run no test; show RUN.")
@click.option("--tests", "places", multiple=True, metavar="FILE:LINE", help="Which tests reach the line.")
@click.option(
    "--diff",
    "patch",
    type=click.Path(path_type=Path),
    metavar="PATCH",
    help="Which lines of a patch were run.",
)
@click.option(
    "--html", type=click.Path(path_type=Path), metavar="DIR", help="Write a view of each file, by gcovr."
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[TESTS]...")
@offline
def coverage(
    kernel: str,
    run: Path | None,
    places: tuple[str, ...],
    patch: Path | None,
    html: Path | None,
    as_json: bool,
    arguments: tuple[str, ...],
) -> None:
    """Run tests on a kernel that was built with GCOV, and tell which of its lines were run.

    Every guest's counters are collected, those of boots too. They stay in the run's folder: --from shows them
    again without a run. Without TESTS the package's suite is run, as by memtype run --suite; other arguments
    are pytest's. The tree must have the patch of --diff applied, and be as it was built. docs/coverage.md
    tells how to build such a kernel.

    The exit status is that of the run; 0 with --from.

    \b
    Examples:
      memtype coverage --kernel tree:$HOME/linux
      memtype coverage --kernel tree:$HOME/linux --from .memtype/latest --html html
      memtype coverage --kernel tree:$HOME/linux --from .memtype/latest --tests arch/x86/mm/pat/memtype.c:586
      memtype coverage --kernel tree:$HOME/linux --diff fix.patch
    """
    # It imports numpy and pytest.
    from pytest_memtype.commands.coverage_report import Asked, check, report, run_tests

    asked = Asked(kernel, places, patch, html, as_json)
    check(asked, arguments, run=run)
    status = 0
    if run is None:
        status, run = run_tests(kernel, arguments)
    click.echo(report(asked, run))
    sys.exit(status)
