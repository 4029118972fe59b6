"""The command ``memtype layouts``."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from pytest_memtype.commands.offline import offline
from pytest_memtype.commands.output import literal, stdout
from pytest_memtype.host.progress import shown
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.layout import Layout
from pytest_memtype.machine.layout_file import layout_files, layout_folders, load_layout
from pytest_memtype.report import layout_map, matrix_table
from pytest_memtype.run.matrix import matrices


@click.group(invoke_without_command=True)
@click.option(
    "--tests",
    "folders",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Test folder whose layouts are known first; may be given several times.",
)
@click.pass_context
def layouts(ctx: click.Context, folders: tuple[Path, ...]) -> None:
    """List the MTRR layouts that --layout and the marker layout know by name.

    Known are those of the package, and TOML files beside tests or in a folder layouts: in the current folder,
    below it, and above it up to the root folder of pytest's settings, and in its testpaths.

    \b
    Examples:
      memtype layouts
      memtype layouts --tests my_tests/
      memtype layouts show wc-framebuffer
      memtype layouts show wc-framebuffer --memory 1G --svg layout.svg
      memtype layouts matrix --kernel debian:trixie
    """
    ctx.obj = layout_folders(folders)
    if ctx.invoked_subcommand is None:
        _print_layouts(ctx.obj)


def _print_layouts(folders: list[Path]) -> None:
    table = Table(box=None, header_style="bold")
    table.add_column("layout", no_wrap=True)
    table.add_column("what it is for", overflow="fold")
    table.add_column("file", overflow="fold")
    for file in layout_files(folders):
        # A layout of the user's that can't be read shall be seen, and not hide the others.
        said = file.layout.description if isinstance(file.layout, Layout) else f"unusable: {file.layout}"
        table.add_row(literal(file.name), literal(said), literal(file.where))
    stdout().print(table)


@layouts.command()
@click.argument("name")
@click.option("--memory", default="256M", metavar="SIZE", help="RAM of the guest (default: 256M).")
@click.option(
    "--svg", "drawing", type=click.Path(path_type=Path), metavar="FILE", help="Draw it here instead."
)
@click.pass_obj
def show(folders: list[Path], name: str, memory: str, drawing: Path | None) -> None:
    """Show the map of memory that a layout makes: ranges, their MTRR type, whose they are."""
    hardware = Hardware(memory=memory)
    picture = layout_map.layout_map(load_layout(name, folders), hardware)
    if drawing is None:
        stdout().print(layout_map.table(picture))
    else:
        from pytest_memtype.host.files import write_atomically

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
@offline
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
    with shown(Console(stderr=True)) as progress:
        found = list(matrices(specs, cpu=cpu, progress=progress))
    if as_json:
        click.echo(matrix_table.as_json(found))
    else:
        for matrix in found:
            stdout().print(matrix_table.table(matrix))
