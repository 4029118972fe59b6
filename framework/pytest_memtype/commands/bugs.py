"""``memtype bugs``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pytest_memtype.commands.offline import offline
from pytest_memtype.commands.output import stdout


@click.group(invoke_without_command=True)
@click.pass_context
def bugs(ctx: click.Context) -> None:
    """List the reported bugs that have a reproducer, and which kernels in the cache have them.

    Known are those of the suite, and test files with a pytestmark bug: in the current folder, below it, and
    above it up to the root folder of pytest's settings, and in its testpaths.

    \b
    Examples:
      memtype bugs
      memtype bugs run vma-split-leak --kernel debian:6.12 --kernel debian:trixie-backports
      memtype bugs show vma-split-leak
    """
    if ctx.invoked_subcommand is None:
        from pytest_memtype.commands.bugs_work import LEGEND, listing

        table, problems = listing()
        stdout().print(table)
        # Not click.echo(), which writes UTF-8 to an output that says it is ASCII (8.1).
        stdout().print(LEGEND, markup=False, highlight=False, soft_wrap=True)
        for problem in problems:
            click.echo(f"memtype: not read: {problem}", err=True)


@bugs.command(name="run")
@click.argument("names", nargs=-1, metavar="[BUG]...")
@click.option("--kernel", "kernels", multiple=True, metavar="SPEC", help="May be given several times.")
@offline
def run_bugs(names: tuple[str, ...], kernels: tuple[str, ...]) -> None:
    """Run reproducers, all without a name, and draw the matrix: bugs down, kernels across.

    REPRODUCED: the kernel has the bug, and it was seen. ABSENT: the kernel is free of it, and it was
    not seen. Anything else fails, and the end status is 1.

    \b
    Examples:
      memtype bugs run --kernel debian:bullseye --kernel debian:bookworm
      memtype bugs run set-memory-alias nopat-devmem --kernel set:lts
    """
    from pytest_memtype.commands.bugs_work import run

    sys.exit(run(names, kernels))


@bugs.command(name="show")
@click.argument("name", metavar="BUG")
@click.option("--kernel", metavar="SPEC", help="On which kernel (default: all it was run on).")
@offline
def show_bug(name: str, kernel: str | None) -> None:
    """Tell the story of a bug, and each operation of its reproducer with the answers.

    The operations are those of the last run in this folder; without one it is run.

    \b
    Examples:
      memtype bugs show fork-frees-parents
      memtype bugs show fork-frees-parents --kernel debian:bullseye
    """
    from pytest_memtype.commands.bugs_work import show

    for line in show(name, kernel):
        click.echo(line)


@bugs.command(name="pages")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=Path("docs/bugs"))
def bug_pages(folder: Path) -> None:
    """Write a page for each bug, into docs/bugs if no folder is given.

    \b
    Examples:
      memtype bugs pages
    """
    from pytest_memtype.bugs.catalogue import catalogue
    from pytest_memtype.bugs.pages import write_pages

    click.echo(f"wrote {len(write_pages(folder, catalogue()))} pages to {folder}")
