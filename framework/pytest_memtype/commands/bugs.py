"""The command ``memtype bugs``."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from pytest_memtype.bugs.catalogue import (
    Reproducer,
    catalogue,
    find,
    find_all,
    is_suites,
    known_here,
)
from pytest_memtype.bugs.matrix import Cell, number_of, read_cells
from pytest_memtype.bugs.pages import lines_about, write_pages
from pytest_memtype.commands.offline import offline
from pytest_memtype.commands.output import stdout
from pytest_memtype.errors import UsageError
from pytest_memtype.kernels.bundle import resolve
from pytest_memtype.kernels.local import find_local
from pytest_memtype.kernels.ready import cached
from pytest_memtype.kernels.spec import DebianSpec, parse
from pytest_memtype.report.operations import told
from pytest_memtype.report.record import NONSENSE, Record, read
from pytest_memtype.run.suite import run_suite
from pytest_memtype.spec.linux_versions import Version, parse_version


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
        console = stdout()
        tables, problems = listing(width=console.width)
        for table in tables:
            console.print(table)
        # Not click.echo(), which writes UTF-8 to an output that says it is ASCII (8.1).
        console.print(LEGEND, markup=False, highlight=False, soft_wrap=True)
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
    sys.exit(run(names, kernels))


@bugs.command(name="show")
@click.argument("name", metavar="BUG")
@click.option("--kernel", metavar="SPEC", help="On which kernel (default: all it was run on).")
@offline
def show_bug(name: str, kernel: str | None) -> None:
    """Tell the story of a bug, and each operation of its reproducer with the answers.

    The operations are those of the last run in this folder. Without one it is run now, in QEMU, and the end
    status is that of memtype bugs run.

    \b
    Examples:
      memtype bugs show fork-frees-parents
      memtype bugs show fork-frees-parents --kernel debian:bullseye
    """
    sys.exit(show(name, kernel, say=click.echo))


@bugs.command(name="pages")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=Path("docs/bugs"))
def bug_pages(folder: Path) -> None:
    """Write a page for each bug, into docs/bugs if no folder is given.

    They are of the user's own bugs, where the command finds some; else of the suite's.

    \b
    Examples:
      memtype bugs pages
      memtype bugs pages notes/
    """
    found, problems = known_here()
    own = [each for each in found if not is_suites(each)]
    click.echo(f"wrote {len(write_pages(folder, own or catalogue()))} pages to {folder}")
    for problem in problems:
        click.echo(f"memtype: not read: {problem}", err=True)


LEGEND = "● has it, ○ has not, by what is known; last run here: R reproduced, A absent, F failed, S skipped"


# Columns of a terminal that a title needs, to be read.
_TITLE = 30


def listing(*, width: int) -> tuple[list[Table], list[str]]:
    """Tables, bugs down and kernels of the cache across; and a line for each file that can't be read.

    It is one table where titles have room beside all kernels. Else they have a table of their own, and below
    it are as many kernels beside each other as fit.

    :param width: The columns of the terminal.
    """
    kernels = sorted({parse_version(each.kernel.version) for each in cached() if each.kernel})
    seen = {(cell.bug, number_of(cell.version)): cell.status for _, cell in _cells()}
    found, problems = known_here()
    headings = [_heading(kernel) for kernel in kernels]
    # With a space on both sides of each column.
    left = width - max(len(each.bug.id) for each in found) - 2
    across = max([len(line) + 2 for heading in headings for line in heading.split("\n")], default=1)
    if len(kernels) * across + _TITLE + 2 <= left:
        return [_table(found, kernels, seen, titled=True)], problems
    most = max(1, left // across)
    parts = [kernels[first : first + most] for first in range(0, len(kernels), most)]
    titles = _table(found, [], seen, titled=True)
    return [titles, *(_table(found, part, seen, titled=False) for part in parts)], problems


def _table(
    found: Iterable[Reproducer],
    kernels: Sequence[Version],
    seen: Mapping[tuple[str, tuple[int, ...]], str],
    *,
    titled: bool,
) -> Table:
    """A table with a row for each bug.

    :param found: The bugs' reproducers.
    :param kernels: The versions that have a column each.
    :param seen: What came of the last run of a bug on a version.
    :param titled: Whether the bugs' titles have a column.
    """
    table = Table(box=None, header_style="bold")
    table.add_column("bug", no_wrap=True)
    for kernel in kernels:
        table.add_column(_heading(kernel), no_wrap=True)
    if titled:
        table.add_column("what goes wrong", overflow="fold")
    for each in found:
        marks = [
            ("●" if each.bug.present(kernel) else "○") + seen.get((each.bug.id, kernel), "")[:1]
            for kernel in kernels
        ]
        table.add_row(each.bug.id, *marks, *([Text(each.bug.title)] if titled else []))
    return table


def run(names: Sequence[str], kernels: Iterable[str]) -> int:
    """Run reproducers, and print their matrix at the end.

    :param names: Ids of bugs; none for all.
    :param kernels: Specs of kernels; none for the default set.
    :returns: The exit status of :func:`run_suite`.
    :raises UsageError: there is no such bug.
    """
    chosen = find_all(names) if names else known_here()[0]
    options = [option for kernel in kernels for option in ("--kernel", kernel)]
    return run_suite([*(str(each.path) for each in chosen), *options, "-q"])


def show(name: str, kernel: str | None, *, say: Callable[[str], None]) -> int:
    """Tell the story of a bug, and each operation of its reproducer's last run in this folder.

    The reproducer is run if there was no such run.

    :param name: Id of the bug.
    :param kernel: The kernel's spec; None for all kernels that there are records of.
    :param say: Called with each line.
    :returns: The exit status of that run; 0 without one.
    :raises UsageError: there is no such bug, or what an earlier run has left is damaged.
    """
    reproducer = find(name)
    for line in _story(reproducer):
        say(line)
    status, found = 0, _last(reproducer, kernel)
    if not found:
        on = "" if kernel is None else f" on {kernel}"
        say("")
        say(f"There is no record of it{on} in this folder, so it is run now in QEMU, which may take minutes.")
        status = run([name], [kernel] if kernel else [])
        found = _last(reproducer, kernel)
    records_of = functools.cache(_records)
    for folder, cell in found:
        say("")
        say(f"{cell.kernel} ({cell.version}): {cell.status}, {cell.test}")
        for line in _operations(folder, [each for each in records_of(folder) if each["test"] == cell.test]):
            say(line)
        for line in cell.evidence:
            say(f"    {line}")
    return status


def _story(reproducer: Reproducer) -> Iterator[str]:
    yield f"{reproducer.bug.id}: {reproducer.bug.title}"
    yield ""
    yield from (f"  {what:15} {text}" for what, text in lines_about(reproducer.bug))
    yield f"  {'reproducer':15} {reproducer.path}"
    yield ""
    yield from reproducer.story.splitlines()


def _records(folder: Path) -> list[Record]:
    file = folder / "records.jsonl"
    # A test that was skipped may have done nothing.
    return read(file) if file.exists() else []


def _operations(folder: Path, records: Iterable[Record]) -> list[str]:
    try:
        return [*told(records)]
    except NONSENSE as error:
        # Each line is a record, but its content was written by somebody else.
        raise UsageError(
            f"{folder}: a record makes no sense ({type(error).__name__}: {error}); remove that folder"
        ) from error


def _last(reproducer: Reproducer, kernel: str | None) -> list[tuple[Path, Cell]]:
    """The cells of a bug in the newest run of each test, each with its run's folder."""
    release = None if kernel is None else _release(kernel)
    newest: dict[str, tuple[Path, Cell]] = {}
    for folder, cell in _cells():
        if cell.bug == reproducer.bug.id and release in (None, cell.kernel):
            newest[cell.test] = folder, cell
    return list(newest.values())


def _release(kernel: str) -> str:
    """The release of a kernel, which cells name it by.

    :param kernel: Its spec.
    """
    wanted = parse(kernel)
    if isinstance(wanted, DebianSpec):
        return resolve(kernel).removeprefix("debian:")
    return find_local(wanted).release


def _cells() -> Iterable[tuple[Path, Cell]]:
    """The cells of all runs in the current folder, the oldest first, each with its run's folder."""
    for folder in sorted(Path.cwd().glob(".memtype/runs/*")):
        for cell in read_cells(folder / "bugs.jsonl"):
            yield folder, cell


def _heading(version: Version) -> str:
    major, minor, patch = version
    return f"{major}.{minor}\n.{patch}"
