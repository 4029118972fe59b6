"""The command ``memtype layouts``."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pytest_memtype.commands.offline import offline
from pytest_memtype.commands.output import stdout
from pytest_memtype.commands.reports import layout_name, read_report
from pytest_memtype.errors import UsageError
from pytest_memtype.explain.imported_layout import Imported, fitted, layout_of
from pytest_memtype.explain.layout_text import layout_text
from pytest_memtype.explain.machine_map import machine_map, registers_of
from pytest_memtype.host.files import named_path, write_atomically
from pytest_memtype.host.progress import shown
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.layout import NAME, Layout
from pytest_memtype.machine.layout_file import layout_files, layout_folders, load_layout, read_layout
from pytest_memtype.machine.memory_map import owners
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
      memtype layouts show dmesg.txt
      memtype layouts import dmesg.txt > layouts/laptop.toml
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
        table.add_row(Text(file.name), Text(said), Text(file.where))
    stdout().print(table)


@layouts.command()
@click.argument("name", metavar="NAME_OR_FILE")
@click.option("--memory", default="256M", metavar="SIZE", help="RAM of the guest (default: 256M).")
@click.option(
    "--svg", "drawing", type=click.Path(path_type=Path), metavar="FILE", help="Draw it here instead."
)
@click.pass_obj
def show(folders: list[Path], name: str, memory: str, drawing: Path | None) -> None:
    """Show the map of memory that a layout makes: ranges, their MTRR type, whose they are.

    With a file that a machine has printed - its log, /proc/mtrr, a mail with either - it is the map of that
    machine, with its own registers and width of addresses, and what the text says of its memory.

    \b
    Examples:
      memtype layouts show wc-framebuffer --memory 1G
      memtype layouts show my-layout.toml
      memtype layouts show dmesg.txt
    """
    hardware = Hardware(memory=memory)
    if name in {each.name for each in layout_files(folders)} or not _is_file(name):
        picture = layout_map.layout_map(load_layout(name, folders), hardware)
        remark = layout_map.remark(picture, hardware)
    else:
        picture, remark = _machine(name, hardware)
    if drawing is None:
        stdout().print(layout_map.table(picture))
    else:
        write_atomically(drawing, layout_map.svg(picture))
        click.echo(f"wrote {drawing}")
    if remark:
        click.echo(remark)


def _is_file(name: str) -> bool:
    return "/" in name or name == "-" or Path(name).exists()


def _machine(name: str, hardware: Hardware) -> tuple[layout_map.Map, str]:
    """The picture of a layout's file, or of a report's machine; and remarks on it."""
    if name.endswith(".toml"):
        layout = read_layout(named_path(name, what="layout"))
        machine = Imported(layout, hardware.physical_bits, ())
        picture = layout_map.map_of(layout, registers_of(machine), owners(hardware))
        return picture, layout_map.remark(picture, hardware)
    dump = read_report(name)
    imported = layout_of(dump, layout_name(name))
    return machine_map(dump, imported), "\n".join(imported.notes)


@layouts.command(name="import")
@click.argument("file", default="-", metavar="[FILE]")
@click.option("--name", metavar="NAME", help="Name of the layout (default: the file's).")
@click.option(
    "--as-is", is_flag=True, help="Keep the machine's registers, even where no guest can have them."
)
@click.option("--memory", default="256M", metavar="SIZE", help="RAM of the guest (default: 256M).")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write it here, not to the output.",
)
def import_layout(file: str, name: str | None, as_is: bool, memory: str, output: Path | None) -> None:
    """Make a layout of what a machine has printed: its log, /proc/mtrr, a mail with either.

    Without a file it is read from the standard input. What a guest can't have is changed; the comments at the
    beginning of the layout say what, and what the text doesn't say.

    \b
    Examples:
      memtype layouts import dmesg.txt > layouts/laptop.toml
      ssh laptop cat /proc/mtrr | memtype layouts import --name laptop
      memtype layouts import --as-is dmesg.txt
    """
    if name is not None and not NAME.fullmatch(name):
        raise UsageError(f"--name {name!r}: a name is made of letters, digits, '-', '_' and '.'")
    found = layout_of(read_report(file), name or layout_name(file))
    if not as_is:
        found = fitted(found, Hardware(memory=memory))
    source = "the standard input" if file == "-" else Path(file).name
    text = layout_text(found.layout, [f"Imported from {source} by memtype layouts import.", *found.notes])
    if output is None:
        click.echo(text, nl=False)
    else:
        write_atomically(output, text.encode())
        click.echo(f"wrote {output}")


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
