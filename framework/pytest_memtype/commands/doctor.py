"""``memtype doctor``."""

from __future__ import annotations

import sys

import click

from pytest_memtype.commands.output import literal, stdout
from pytest_memtype.errors import HostError


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON instead of the table.")
def doctor(as_json: bool) -> None:
    """Tell what this host can do, what it can't, and what to do about it.

    Ends with status 3 when guests can't run here.

    \b
    Examples:
      memtype doctor
      memtype doctor --json | jq '.checks[] | select(.ok | not)'
    """
    import dataclasses
    import json

    from rich.table import Table

    from pytest_memtype.commands.doctor_work import checks

    found = checks()
    well = all(check.ok for check in found if check.needed)
    if as_json:
        click.echo(json.dumps({"ok": well, "checks": [dataclasses.asdict(check) for check in found]}))
        sys.exit(0 if well else HostError.exit_status)
    table = Table(box=None, header_style="bold")
    for column in ("", "what", "found", "what to do"):
        table.add_column(column, overflow="fold")
    for check in found:
        mark = "[green]ok[/]" if check.ok else "[red]no[/]" if check.needed else "[yellow]part[/]"
        table.add_row(mark, check.name, literal(check.found), literal(check.advice))
    stdout().print(table)
    if not well:
        sys.exit(HostError.exit_status)
