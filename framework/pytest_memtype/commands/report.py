"""The command ``memtype report``."""

from __future__ import annotations

from pathlib import Path

import click

from pytest_memtype.errors import UsageError


@click.command()
@click.option(
    "--html",
    "folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write a site for browsers into this folder, which is new or has an earlier report.",
)
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path), metavar="RUN...")
def report(folder: Path | None, runs: tuple[Path, ...]) -> None:
    """Write a report of earlier runs: verdicts, timelines of tests, layouts, findings, differences, failures.

    RUN is a folder below .memtype/runs, or a file records.jsonl. The report is a folder of static files; open
    its index.html.

    \b
    Examples:
      memtype report .memtype/latest --html report
      memtype report .memtype/runs/* --html /srv/www/memtype
    """
    if folder is None:
        raise UsageError("where is the report to go? Name a folder with --html DIR")
    if not runs:
        raise UsageError("which runs? Name folders such as .memtype/latest")
    # The import loads jinja2.
    from pytest_memtype.site.build import write_site

    for each in write_site(runs, folder):
        click.echo(f"{each.name}: {len(each.results)} tests, {each.steps} steps")
    click.echo(f"report: {folder / 'index.html'}")
