"""``memtype cache``."""

from __future__ import annotations

import click

from pytest_memtype.commands.output import literal, stdout


@click.group(invoke_without_command=True)
@click.pass_context
def cache(ctx: click.Context) -> None:
    """List what the cache folder holds, and how big and old it is.

    \b
      kit       a kernel as downloaded, with its compiler; or tools to build with
      drivers   the modules that memtype run --observe loads
      modules   those of a distribution guest's kernel
      image     a distribution
      firmware  OVMF
      bundle    what a guest boots from, built in a kit
      template  a booted guest, from which others are cloned

    \b
    Examples:
      memtype cache
      memtype cache prune --limit 2G
      memtype cache remove 6.1.0-56-cloud-amd64-b89be7388d9dc2d1
    """
    if ctx.invoked_subcommand is None:
        _print_cache()


def _print_cache() -> None:
    import time

    from rich.table import Table

    from pytest_memtype.cache import entries
    from pytest_memtype.resources import cache_directory

    found = entries()
    table = Table(box=None, header_style="bold")
    for column in ("what", "kernel", "last used", "name"):
        table.add_column(column, no_wrap=True)
    table.add_column("MiB", justify="right")
    for entry in found:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        table.add_row(entry.kind, literal(entry.kernel), used, literal(entry.name), str(entry.size >> 20))
    if found:
        stdout().print(table)
    total = sum(entry.size for entry in found)
    click.echo(f"{cache_directory()}: {total >> 20} MiB in {len(found)} entries")


@cache.command()
@click.option("--limit", default="0", metavar="SIZE", help="What may stay, such as 2G (default: nothing).")
def prune(limit: str) -> None:
    """Remove the least recently used templates. They are made again when needed, in seconds."""
    from pytest_memtype.cache import prune_templates
    from pytest_memtype.errors import UsageError
    from pytest_memtype.x86.size import parse_size

    try:
        size = parse_size(limit)
    except ValueError as error:
        raise UsageError(f"--limit: {error}") from None
    prune_templates(size)
    _print_cache()


@cache.command(name="remove")
@click.argument("names", nargs=-1, required=True)
def remove_entries(names: tuple[str, ...]) -> None:
    """Remove entries by the names that memtype cache lists."""
    from rich.console import Console

    from pytest_memtype.cache import remove
    from pytest_memtype.progress import shown

    with shown(Console(stderr=True)) as progress:
        for entry in remove(names, progress=progress):
            click.echo(f"removed {entry.kind} {entry.name}, {entry.size >> 20} MiB")
