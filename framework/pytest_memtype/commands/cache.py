"""The command ``memtype cache``."""

from __future__ import annotations

import time
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pytest_memtype.commands.output import stdout
from pytest_memtype.errors import UsageError
from pytest_memtype.host.progress import shown
from pytest_memtype.host.resources import cache_directory
from pytest_memtype.kernels import mirror
from pytest_memtype.kernels.carry import Carried, export, import_kernels
from pytest_memtype.run import cache as cached
from pytest_memtype.run.cache import entries, remove
from pytest_memtype.x86.size import parse_size


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
      user-module  a module that a test has brought, built, or one that it needs
      template  a booted guest, from which others are cloned
      cluster   what a run with --scheduler has sent to this machine
      evidence  logs of tests that passed here in such a run, for memtype evidence --test
      selftests  the kernel's own tests, built, for memtype selftests
      qemu      another suite's QEMU,
      outer     the guest in which KVM is tested,
      browser   Chromium, and
      lint      the kernel's checkpatch.pl: of ./hil test

    \b
    Examples:
      memtype cache
      memtype cache prune --limit 2G
      memtype cache remove 6.1.0-56-cloud-amd64-b89be7388d9dc2d1
      memtype cache export kernels.tar.gz debian:bookworm
      memtype cache import kernels.tar.gz
    """
    if ctx.invoked_subcommand is None:
        _print_cache()


def _print_cache() -> None:
    found = entries()
    table = Table(box=None, header_style="bold")
    for column in ("what", "kernel", "last used", "name"):
        table.add_column(column, no_wrap=True)
    table.add_column("MiB", justify="right")
    for entry in found:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        table.add_row(entry.kind, Text(entry.kernel), used, Text(entry.name), str(entry.size >> 20))
    if found:
        stdout().print(table)
    total = sum(entry.size for entry in found)
    click.echo(f"{cache_directory()}: {total >> 20} MiB in {len(found)} entries")


@cache.command()
@click.option("--limit", default="0", metavar="SIZE", help="What may stay, such as 2G (default: nothing).")
def prune(limit: str) -> None:
    """Remove the least recently used templates, and the oldest evidence, until each takes at most SIZE.

    Templates are made again when needed, in seconds; the logs of evidence are gone.
    """
    try:
        size = parse_size(limit)
    except ValueError as error:
        raise UsageError(f"--limit: {error}") from None
    cached.prune(size)
    _print_cache()


@cache.command(name="remove")
@click.argument("names", nargs=-1, required=True)
def remove_entries(names: tuple[str, ...]) -> None:
    """Remove entries by the names that memtype cache lists."""
    with shown(Console(stderr=True)) as progress:
        for entry in remove(names, progress=progress):
            click.echo(f"removed {entry.kind} {entry.name}, {entry.size >> 20} MiB")


@cache.command(name="export")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("specs", nargs=-1, required=True, metavar="KERNEL...")
@click.option("--with-toolchain", is_flag=True, help="Also what they were built with, 300 MiB and more each.")
def export_kernels(file: Path, specs: tuple[str, ...], with_toolchain: bool) -> None:
    """Write kernels of the cache to FILE, for a machine without a network.

    With them go the indexes, so that debian:bookworm means the same there, and the firmware OVMF if the cache
    has it. The other machine needs QEMU and the same version of pytest-memtype; another version builds the
    guests anew, which takes --with-toolchain. No mirror is asked.

    \b
    Examples:
      memtype cache export kernels.tar.gz debian:bookworm
      memtype cache export kernels.tar.gz set:cached --with-toolchain
    """
    mirror.stay_offline()
    with shown(Console(stderr=True)) as progress:
        done = export(file, specs, with_toolchain=with_toolchain, progress=progress)
    for kernel in done.kernels:
        click.echo(kernel.release)
    size = file.stat().st_size
    click.echo(f"wrote {file}: {len(done.kernels)} kernels{_beside(done)}, {size >> 20} MiB")


@cache.command(name="import")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def import_file(file: Path) -> None:
    """Take over the kernels of FILE, which memtype cache export wrote on another machine.

    All of it is checked before any of it is kept. Programs are in it that are run here: take files of people
    you trust.

    \b
    Examples:
      memtype cache import kernels.tar.gz
    """
    with shown(Console(stderr=True)) as progress:
        done = import_kernels(file, progress=progress)
    for kernel in done.kernels:
        new = any(name.startswith(f"bundles/{kernel.release}-") for name in done.new)
        click.echo(f"{kernel.release}{'' if new else ', which was there already'}")
    click.echo(f"read {file}: {len(done.kernels)} kernels{_beside(done)}")


def _beside(done: Carried) -> str:
    """Text on toolchains, firmware and indexes that were written or read beside the kernels."""
    parts = (
        f"{done.toolchains} with toolchain" if done.toolchains else "",
        "OVMF" if done.firmware else "",
        f"indexes of {', '.join(done.indexes)}" if done.indexes else "",
    )
    return "".join(f", {part}" for part in parts if part)
