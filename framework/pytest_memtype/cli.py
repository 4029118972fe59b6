"""The command ``memtype``. What its subcommands do is elsewhere in the package."""

from __future__ import annotations

import sys
from pathlib import Path
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
    _stdout().print(table)
    if not all(check.ok for check in found):
        sys.exit(EXIT_HOST)


def _stdout() -> Console:
    console = Console()
    # What goes into a file or a pipe is read by programs: nothing of it is cut.
    return console if console.is_terminal else Console(width=250)


def _literal(text: str) -> Any:
    from rich.text import Text

    return Text(text)


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(arguments: tuple[str, ...]) -> None:
    """Run the suite, or the tests named, against real kernels.

    All arguments are pytest's, and --help shows them; those of this project are --kernel, --layout, --fresh,
    --accel, --shared-guest, --keep-logs and --memtype-dir. One worker runs per core.

    With --observe nothing is tested: a guest boots, the drivers of its kernel are loaded, and every mapping
    of theirs that breaks the rules is listed. It takes --kernel, --layout and --accel, and ends with status
    1 when there is one.

    \b
    Examples:
      memtype run
      memtype run --observe --kernel debian:bookworm
      memtype run --kernel debian:bullseye -k sharers
      memtype run --layout wc-framebuffer my_tests/
    """
    if "--observe" in arguments:
        from pytest_memtype.observe import run_observe

        sys.exit(run_observe([argument for argument in arguments if argument != "--observe"]))
    from pytest_memtype.run import run_suite

    sys.exit(run_suite(list(arguments)))


@main.command(context_settings={"ignore_unknown_options": True})
@click.option("--kernel", "kernels", multiple=True, metavar="SPEC", help="A kernel to run the tests on.")
@click.option("--json", "form", flag_value="json", help="Print JSON.")
@click.option("--markdown", "form", flag_value="markdown", help="Print Markdown.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[TESTS... | RUN RUN...]")
def compare(kernels: tuple[str, ...], form: str | None, arguments: tuple[str, ...]) -> None:
    """Run tests on several kernels, and show only what differs; or compare the records of earlier runs.

    With --kernel the arguments are pytest's. Without, they are folders below .memtype/runs, or files
    records.jsonl. Ends with status 1 when an answer isn't what was expected of its kernel.

    \b
    Examples:
      memtype compare --kernel debian:bullseye --kernel debian:bookworm
      memtype compare --kernel set:lts -k fork --markdown
      memtype compare .memtype/runs/20261123-040712-4711 .memtype/latest
    """
    from pytest_memtype.comparison import compare_kernels, compare_runs, show

    if kernels:
        status, comparison = compare_kernels(kernels, arguments)
    else:
        status, comparison = 0, compare_runs(map(Path, arguments))
    click.echo(show(comparison, form=form or "table"), nl=False)
    sys.exit(status or (1 if comparison.surprises else 0))


@main.command()
@click.argument("test")
@click.option("--good", required=True, metavar="SPEC", help="A kernel on which the test passes.")
@click.option("--bad", required=True, metavar="SPEC", help="A kernel on which it fails.")
def bisect(test: str, good: str, bad: str) -> None:
    """Find the two neighbouring kernels between which a test began to fail.

    TEST is pytest's node id without a kernel. Tried are the cloud kernels that Debian's mirror has between
    the two; one that can't be is skipped. An interrupted search goes on when the command is repeated. With
    tree:PATH, a script for git bisect run is printed instead.

    \b
    Examples:
      memtype bisect testcases/test_ram.py::test_it --good debian:6.1 --bad debian:6.12
      memtype bisect my_test.py::test_it --good tree:$HOME/linux --bad tree:$HOME/linux > bisect.sh
    """
    from pytest_memtype import bisection
    from pytest_memtype.progress import shown

    if "tree" in (good.partition(":")[0], bad.partition(":")[0]):
        click.echo(bisection.git_script(test, good=good, bad=bad), nl=False)
        return
    with shown(Console(stderr=True)) as progress:
        bisection.bisect(
            test, good=good, bad=bad, folder=Path.cwd() / ".memtype", say=click.echo, progress=progress
        )


@main.group(invoke_without_command=True)
@click.option(
    "--tests",
    "folders",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Test folder whose layouts are known too; may be given several times (default: the current folder).",
)
@click.pass_context
def layouts(ctx: click.Context, folders: tuple[Path, ...]) -> None:
    """List the MTRR layouts that --layout and the marker layout know by name.

    \b
    Examples:
      memtype layouts
      memtype layouts --tests my_tests/
      memtype layouts show wc-framebuffer
      memtype layouts show wc-framebuffer --memory 1G --svg layout.svg
      memtype layouts matrix --kernel debian:trixie
    """
    from pytest_memtype.machine.layout_file import folders_of_tests

    ctx.obj = [each for folder in folders or (Path(),) for each in folders_of_tests(folder)]
    if ctx.invoked_subcommand is None:
        _print_layouts(ctx.obj)


def _print_layouts(folders: list[Path]) -> None:
    from rich.table import Table

    from pytest_memtype.machine.layout import Layout
    from pytest_memtype.machine.layout_file import layout_files

    table = Table(box=None, header_style="bold")
    table.add_column("layout", no_wrap=True)
    table.add_column("what it is for", overflow="fold")
    table.add_column("file", overflow="fold")
    for file in layout_files(folders):
        # A layout of the user's that can't be read shall be seen, and not hide the others.
        said = file.layout.description if isinstance(file.layout, Layout) else f"unusable: {file.layout}"
        table.add_row(_literal(file.name), _literal(said), _literal(file.where))
    _stdout().print(table)


@layouts.command()
@click.argument("name")
@click.option("--memory", default="256M", metavar="SIZE", help="RAM of the guest (default: 256M).")
@click.option(
    "--svg", "drawing", type=click.Path(path_type=Path), metavar="FILE", help="Draw it here instead."
)
@click.pass_obj
def show(folders: list[Path], name: str, memory: str, drawing: Path | None) -> None:
    """Show the map of memory that a layout makes: ranges, their MTRR type, whose they are."""
    from pytest_memtype.machine.hardware import Hardware
    from pytest_memtype.machine.layout_file import load_layout
    from pytest_memtype.report import layout_map

    hardware = Hardware(memory=memory)
    picture = layout_map.layout_map(load_layout(name, folders), hardware)
    if drawing is None:
        _stdout().print(layout_map.table(picture))
    else:
        from pytest_memtype.files import write_atomically

        write_atomically(drawing, layout_map.svg(picture))
        click.echo(f"wrote {drawing}")
    remark = layout_map.remark(picture, hardware)
    if remark:
        click.echo(remark)


@layouts.command(name="matrix")
@click.option(
    "--kernel",
    "specs",
    multiple=True,
    metavar="SPEC",
    help="Which kernel; may be given several times (default: set:default).",
)
@click.option(
    "--cpu", default="qemu64", show_default=True, help="QEMU's -cpu, whose vendor's manual is shown."
)
@click.option("--json", "as_json", is_flag=True, help="Print a list of all cells for programs.")
def print_matrix(specs: tuple[str, ...], cpu: str, as_json: bool) -> None:
    """Measure what each kernel grants for each type asked for over each MTRR type.

    A driver's ioremap and a process's mmap, on device memory that nobody else has mapped. "effective" is what
    the CPU makes of the type in the page table and the MTRRs read in the guest, by its vendor's table; it is
    marked where that isn't what the same table says of the type that was asked for.

    \b
    Examples:
      memtype layouts matrix
      memtype layouts matrix --kernel debian:bullseye --kernel debian:trixie
      memtype layouts matrix --cpu qemu64,vendor=GenuineIntel --json
    """
    from pytest_memtype.matrix import matrices
    from pytest_memtype.progress import shown
    from pytest_memtype.report import matrix_table

    with shown(Console(stderr=True)) as progress:
        found = list(matrices(specs, cpu=cpu, progress=progress))
    if as_json:
        click.echo(matrix_table.as_json(found))
    else:
        for matrix in found:
            _stdout().print(matrix_table.table(matrix))


@main.command()
@click.option("--kernel", metavar="SPEC", help="Which kernel (default: the first of the set 'default').")
@click.option("--layout", default="firmware", show_default=True, help="Which MTRR layout.")
@click.option("--cpu", default="qemu64", show_default=True, help="Which CPU, as QEMU calls it.")
@click.option("--cmdline", default="", help="More for the kernel's command line.")
@click.option(
    "--after",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with one test: the shell is in the guest that it leaves.",
)
def shell(kernel: str | None, layout: str, cpu: str, cmdline: str, after: Path | None) -> None:
    """A guest of one's own: a shell on its console, or in a guest that a test has brought into some state.

    On the console Ctrl-A X ends QEMU, and so does exit.

    \b
    Examples:
      memtype shell
      memtype shell --kernel debian:bullseye --layout wb-device
      memtype shell --kernel debian:6.1 --after disagreement.py
    """
    from pytest_memtype.kernels.sets import kernel_set
    from pytest_memtype.machine.hardware import Hardware
    from pytest_memtype.machine.layout_file import load_layout
    from pytest_memtype.progress import shown
    from pytest_memtype.session import GuestKind
    from pytest_memtype.shell import after_test, on_console, typed

    spec = kernel or kernel_set("default")[0]
    kind = GuestKind(spec, load_layout(layout, [Path()]), Hardware(cpu=cpu, cmdline=cmdline))
    with shown(Console(stderr=True)) as progress:
        if after is None:
            sys.exit(on_console(kind, progress=progress))
        after_test(kind, after, lines=typed("guest# "), show=click.echo, progress=progress)


@main.command()
@click.option(
    "--qmp", type=click.Path(path_type=Path), metavar="SOCKET", help="QMP socket of a QEMU that runs."
)
@click.option("--pid", type=int, help="Its process (default: whoever has the socket).")
@click.option("--ram", type=click.Path(path_type=Path), metavar="FILE", help="Saved memory instead.")
@click.option(
    "--state", type=click.Path(path_type=Path), metavar="FILE", help="Saved device state, with --ram."
)
@click.option("--vendor", default="AuthenticAMD", help="CPU vendor of saved files (default: AuthenticAMD).")
@click.option("--physical-bits", default=40, help="Address width of their CPU (default: 40).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
@click.option("--svg", type=click.Path(path_type=Path), metavar="FILE", help="Draw memory by type, too.")
def audit(**options: Any) -> None:
    """List physical pages that a guest's page tables map with conflicting memory types.

    Works with any QEMU of an x86-64 guest. The guest stands still while its registers and page tables are
    read, and goes on as it was. Needs the right to read QEMU's memory (be its owner, or root). Ends with
    status 1 when there is a conflict.

    \b
    Examples:
      memtype audit --qmp /run/vm.sock
      memtype audit --qmp /run/vm.sock --json > audit.json
      memtype audit --ram ram --state state --svg memory.svg
    """
    from pytest_memtype.audit_command import run_audit

    sys.exit(run_audit(_stdout(), **options))


@main.group(invoke_without_command=True)
@click.pass_context
def cache(ctx: click.Context) -> None:
    """List what the cache folder holds: kits (downloaded), bundles (built) and templates (booted).

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
        table.add_row(entry.kind, _literal(entry.kernel), used, entry.name, str(entry.size >> 20))
    if found:
        _stdout().print(table)
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
    from pytest_memtype.cache import remove

    for entry in remove(names):
        click.echo(f"removed {entry.kind} {entry.name}, {entry.size >> 20} MiB")


@main.group(invoke_without_command=True)
@click.pass_context
def kernels(ctx: click.Context) -> None:
    """List the kernels in the cache, fetch and build others, or remove some.

    \b
    A kernel is written as with memtype run --kernel:
      debian:bookworm                   the newest cloud kernel of a suite
      debian:6.12                       the newest of a series
      debian:6.1.0-50-cloud-amd64       this very one
      tree:PATH                         a kernel build tree, with its own compiler
      image:BZIMAGE,build=PATH          an image, and the folder it was built in
      host                              the running kernel, with its headers
      set:default, set:lts, set:all     a set: the default, the newest of each series, all there are

    \b
    Examples:
      memtype kernels list --available
      memtype kernels fetch set:lts
      memtype kernels remove 6.1.0-50-cloud-amd64
    """
    if ctx.invoked_subcommand is None:
        _print_cached_kernels()


@kernels.command(name="list")
@click.option("--available", is_flag=True, help="Those that Debian's mirror has instead.")
def list_kernels(available: bool) -> None:
    """List the kernels in the cache, or those the mirror has.

    \b
    Examples:
      memtype kernels list
      memtype kernels list --available
    """
    if available:
        _print_available_kernels()
    else:
        _print_cached_kernels()


@kernels.command()
@click.argument("specs", nargs=-1, required=True, metavar="KERNEL...")
def fetch(specs: tuple[str, ...]) -> None:
    """Download kernels with their compilers, and build their guests, two at a time.

    One that fails doesn't stop the others; the end status is 3 then. What was finished is kept, so that a
    repetition goes on from there.

    \b
    Examples:
      memtype kernels fetch set:lts
      memtype kernels fetch debian:bullseye debian:6.12
      memtype kernels fetch tree:$HOME/linux
    """
    from pytest_memtype.kernel_commands import fetch as fetch_kernels

    done = fetch_kernels(specs)
    failed = [status for status in done if status.error is not None]
    for status in failed:
        click.echo(f"memtype: {status.error}", err=True)
    click.echo(f"{len(done) - len(failed)} of {len(done)} kernels are ready")
    if failed:
        sys.exit(max(status.error.exit_status for status in failed if status.error))


@kernels.command(name="remove")
@click.argument("names", nargs=-1, required=True, metavar="KERNEL...")
def remove_kernels(names: tuple[str, ...]) -> None:
    """Remove kernels from the cache, with all that was built for them.

    \b
    Examples:
      memtype kernels remove 6.1.0-50-cloud-amd64
      memtype kernels remove debian:bookworm
    """
    from pytest_memtype.kernel_commands import remove

    for each in remove(names):
        click.echo(f"removed {each.release}, {(each.kit + each.bundles) >> 20} MiB")


def _print_cached_kernels() -> None:
    import time

    from rich.table import Table

    from pytest_memtype.kernel_commands import cached
    from pytest_memtype.resources import cache_directory

    found = cached()
    table = Table(box=None, header_style="bold")
    for column in ("kernel", "package", "suite", "fetched", "module"):
        table.add_column(column, no_wrap=True)
    for column in ("kit MiB", "built MiB"):
        table.add_column(column, justify="right")
    for each in found:
        known = each.kernel
        fetched = time.strftime("%Y-%m-%d %H:%M", time.localtime(each.fetched))
        about = (known.version, known.suite) if known else ("", "")
        module = "no headers" if known and not known.headers else "yes"
        table.add_row(each.release, *about, fetched, module, str(each.kit >> 20), str(each.bundles >> 20))
    if found:
        _stdout().print(table)
    total = sum(each.kit + each.bundles for each in found)
    click.echo(f"{cache_directory()}: {len(found)} kernels, {total >> 20} MiB")


def _print_available_kernels() -> None:
    from rich.table import Table

    from pytest_memtype.kernel_commands import available

    table = Table(box=None, header_style="bold")
    for column in ("kernel", "package", "suite", "module"):
        table.add_column(column, no_wrap=True)
    for each in available():
        module = "yes" if each.headers else "no: its headers are gone"
        table.add_row(f"debian:{each.release}", each.version, each.suite, module)
    _stdout().print(table)


@main.group(invoke_without_command=True)
@click.pass_context
def bugs(ctx: click.Context) -> None:
    """List the reported bugs that have a reproducer, and which kernels in the cache have them.

    \b
    Examples:
      memtype bugs
      memtype bugs run vma-split-leak --kernel debian:6.12 --kernel debian:trixie-backports
      memtype bugs show vma-split-leak
    """
    if ctx.invoked_subcommand is None:
        from pytest_memtype.bug_commands import LEGEND, listing

        _stdout().print(listing())
        click.echo(LEGEND)


@bugs.command(name="run")
@click.argument("names", nargs=-1, metavar="[BUG]...")
@click.option("--kernel", "kernels", multiple=True, metavar="SPEC", help="May be given several times.")
def run_bugs(names: tuple[str, ...], kernels: tuple[str, ...]) -> None:
    """Run reproducers, all without a name, and draw the matrix: bugs down, kernels across.

    REPRODUCED: the kernel has the bug, and it was seen. ABSENT: the kernel is free of it, and it was
    not seen. Anything else fails, and the end status is 1.

    \b
    Examples:
      memtype bugs run --kernel debian:bullseye --kernel debian:bookworm
      memtype bugs run set-memory-alias nopat-devmem --kernel set:lts
    """
    from pytest_memtype.bug_commands import run

    sys.exit(run(names, kernels))


@bugs.command(name="show")
@click.argument("name", metavar="BUG")
@click.option("--kernel", metavar="SPEC", help="On which kernel (default: all it was run on).")
def show_bug(name: str, kernel: str | None) -> None:
    """Tell the story of a bug, and each operation of its reproducer with the answers.

    The operations are those of the last run in this folder; without one it is run.

    \b
    Examples:
      memtype bugs show fork-frees-parents
      memtype bugs show fork-frees-parents --kernel debian:bullseye
    """
    from pytest_memtype.bug_commands import show

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
    from pytest_memtype.bug_catalogue import catalogue
    from pytest_memtype.bug_pages import write_pages

    click.echo(f"wrote {len(write_pages(folder, catalogue()))} pages to {folder}")
