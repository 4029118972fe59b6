"""The command ``memtype kernels``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pytest_memtype.commands.offline import offline
from pytest_memtype.commands.output import stdout
from pytest_memtype.errors import KernelError
from pytest_memtype.host.progress import shown
from pytest_memtype.host.resources import cache_directory
from pytest_memtype.kernels.lock import make_lock, read_lock, write_lock
from pytest_memtype.kernels.ready import available, cached, remove
from pytest_memtype.kernels.ready import fetch as fetch_kernels
from pytest_memtype.kernels.sets import DEFAULT, expand

_WHY_THEY_DIFFER = (
    "debian:SUITE is what the suite's own package linux-image-cloud-amd64 names, so what its users get;\n"
    "debian:SERIES is the newest that is built, in any suite, signed or not yet. The two may differ for days."
)


@click.group(invoke_without_command=True)
@click.pass_context
def kernels(ctx: click.Context) -> None:
    """List the kernels in the cache, fetch and build others, check one of your own, or remove some.

    \b
    A kernel is written as with memtype run --kernel:
      debian:bookworm                   the cloud kernel that a suite's users get
      debian:6.12                       the newest that is built of a series, signed or not yet
      debian:6.1.0-50-cloud-amd64       this very one
      tree:PATH                         a kernel build tree, with its own compiler
      image:BZIMAGE,build=PATH          an image, and the folder it was built in
      host                              the running kernel, with its headers
      set:default, set:lts, set:all     a set: the default, the newest of each series, all there are
      set:cached                        all that the cache has

    \b
    Examples:
      memtype kernels list --available
      memtype kernels fetch set:lts
      memtype kernels lock debian:bookworm debian:trixie
      memtype kernels check ~/linux
      memtype kernels remove 6.1.0-50-cloud-amd64
    """
    if ctx.invoked_subcommand is None:
        _print_cached_kernels()


@kernels.command(name="list")
@click.option("--available", is_flag=True, help="Those that Debian's mirror has instead.")
@offline
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
@click.argument("specs", nargs=-1, metavar="[KERNEL]...")
@offline
def lock(specs: tuple[str, ...]) -> None:
    """Pin what kernels mean in memtype-kernels.lock of this folder, which runs started here keep to.

    Without KERNEL those that it has are looked up anew, or the default for a new file. Test ids stay.

    \b
    Examples:
      memtype kernels lock debian:bookworm set:lts
      memtype kernels lock
    """
    there = read_lock(Path.cwd())
    with shown(Console(stderr=True)) as progress:
        made = make_lock(specs or there or expand(DEFAULT, progress=progress), progress=progress)
    path = write_lock(Path.cwd(), {**there, **made})
    for spec, exact in made.items():
        was = there.get(spec)
        click.echo(
            f"{spec}: {', '.join(exact)}" + ("" if was in (None, exact) else f" (was {', '.join(was)})")
        )
    click.echo(f"written to {path.name}; commit it")


@kernels.command()
@click.argument("specs", nargs=-1, required=True, metavar="KERNEL...")
@offline
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
    done = fetch_kernels(specs)
    failed = [status for status in done if status.error is not None]
    for status in failed:
        click.echo(f"memtype: {status.error}", err=True)
    click.echo(f"{len(done) - len(failed)} of {len(done)} kernels are ready")
    if failed:
        sys.exit(max(status.error.exit_status for status in failed if status.error))


@kernels.command(name="check")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def check_kernel(path: Path, as_json: bool) -> None:
    """Tell what a kernel of your own lacks to be a guest, and which tests of the suite will be skipped on it.

    PATH is a build tree, built or only configured, or the file of a configuration, compressed or not. Nothing
    is built.

    The exit status is 0 when the kernel can be a guest, and 3 when it can't.

    \b
    Examples:
      memtype kernels check ~/linux
      memtype kernels check /boot/config-6.12.0-rc1
      memtype kernels check /proc/config.gz
    """
    # It imports pytest, which the other commands do without.
    from pytest_memtype.commands.kernel_check import checked

    found = checked(path)
    click.echo(found.json() if as_json else found.text())
    if found.unfit:
        sys.exit(KernelError.exit_status)


@kernels.command(name="remove")
@click.argument("names", nargs=-1, required=True, metavar="KERNEL...")
def remove_kernels(names: tuple[str, ...]) -> None:
    """Remove kernels from the cache, with their compilers and what their guests boot from.

    Templates, and drivers and modules for them, stay: memtype cache lists and removes those.

    \b
    Examples:
      memtype kernels remove 6.1.0-50-cloud-amd64
      memtype kernels remove debian:bookworm
    """
    with shown(Console(stderr=True)) as progress:
        for each in remove(names, progress=progress):
            click.echo(f"removed {each.release}, {(each.kit + each.bundles) >> 20} MiB")


def _print_cached_kernels() -> None:
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
        sizes = str(each.kit >> 20), str(each.bundles >> 20)
        table.add_row(Text(each.release), *map(Text, about), fetched, module, *sizes)
    if found:
        stdout().print(table)
    total = sum(each.kit + each.bundles for each in found)
    click.echo(f"{cache_directory()}: {len(found)} kernels, {total >> 20} MiB")


def _print_available_kernels() -> None:
    table = Table(box=None, header_style="bold")
    for column in ("kernel", "package", "suite", "module", "signed", "also meant by"):
        table.add_column(column, no_wrap=True)
    for each in available():
        kernel = each.kernel
        module = "yes" if kernel.headers else "no: its headers are gone"
        signed = "yes" if kernel.signed else "not yet"
        also = " ".join(each.specs)
        table.add_row(f"debian:{kernel.release}", kernel.version, kernel.suite, module, signed, also)
    stdout().print(table)
    click.echo(_WHY_THEY_DIFFER)
