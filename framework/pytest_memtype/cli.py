"""The command ``memtype``. What its subcommands do is elsewhere in the package."""

from __future__ import annotations

import sys
from typing import Any

import click
from rich.console import Console

from pytest_memtype.errors import MemtypeError

EXIT_HOST = 3


class _Commands(click.Group):
    """Prints our own errors as one line, with what belongs below it, and ends with their status."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except MemtypeError as error:
            if ctx.params["debug"]:
                raise
            click.echo(f"memtype: {error}", err=True)
            ctx.exit(error.exit_status)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pytest-memtype")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Check that no page of a real kernel is ever mapped with two conflicting memory types.

    \b
    Examples:
      memtype doctor
      memtype run
      memtype run --kernel debian:bullseye --kernel debian:bookworm -k two_drivers
    """


@main.command()
def doctor() -> None:
    """Tell what this host can do, what it can't, and what to do about it.

    Ends with status 3 when guests can't run here.
    """
    from rich.table import Table

    from pytest_memtype.doctor import checks

    found = checks()
    table = Table(box=None, header_style="bold")
    for column in ("", "what", "found", "what to do"):
        table.add_column(column, overflow="fold")
    for check in found:
        mark = "[green]ok[/]" if check.ok else "[red]no[/]"
        table.add_row(mark, check.name, _literal(check.found), _literal(check.advice))
    Console().print(table)
    if not all(check.ok for check in found):
        sys.exit(EXIT_HOST)


def _literal(text: str) -> Any:
    from rich.text import Text

    return Text(text)


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(arguments: tuple[str, ...]) -> None:
    """Run the suite, or the tests named, against real kernels.

    All arguments are pytest's, and --help shows them; those of this project are --kernel, --layout,
    --shared-guest, --keep-logs and --memtype-dir. One worker runs per core.

    \b
    Examples:
      memtype run
      memtype run --kernel debian:bullseye -k sharers
      memtype run --layout wc-framebuffer my_tests/
    """
    from pytest_memtype.run import run_suite

    sys.exit(run_suite(list(arguments)))
