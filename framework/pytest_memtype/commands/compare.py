"""The command ``memtype compare``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pytest_memtype.commands.compare_kernels import compare_kernels, compare_runs, show
from pytest_memtype.commands.offline import offline
from pytest_memtype.report.job_summary import add_to_summary


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--kernel", "kernels", multiple=True, metavar="SPEC", help="A kernel to run the tests on.")
@click.option("--json", "form", flag_value="json", help="Print JSON.")
@click.option("--markdown", "form", flag_value="markdown", help="Print Markdown.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[TESTS... | RUN RUN...]")
@offline
def compare(kernels: tuple[str, ...], form: str | None, arguments: tuple[str, ...]) -> None:
    """Run tests on several kernels, and show only what differs; or compare the records of earlier runs.

    With --kernel the arguments are those of memtype run and pytest: where no tests are named, this folder's
    are run, or with --suite the suite. Without it, they are folders below .memtype/runs, or files
    records.jsonl. Ends with status 1 when an answer isn't what was expected of its kernel.

    \b
    Examples:
      memtype compare --kernel debian:bullseye --kernel debian:bookworm
      memtype compare --kernel set:lts -k fork --markdown
      memtype compare .memtype/runs/20261123-040712-4711 .memtype/latest
    """
    if kernels:
        status, comparison = compare_kernels(kernels, arguments)
    else:
        status, comparison = 0, compare_runs(map(Path, arguments))
    click.echo(show(comparison, form=form or "table"), nl=False)
    add_to_summary(f"## memtype compare\n\n{show(comparison, form='markdown')}\n")
    sys.exit(status or (1 if comparison.surprises else 0))
