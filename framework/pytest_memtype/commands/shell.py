"""``memtype shell``."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console

from pytest_memtype.commands.offline import offline


@click.command()
@click.option(
    "--kernel",
    metavar="SPEC",
    help="Which kernel (default: the first of the set 'default', or the guest's own).",
)
@click.option("--guest", metavar="GUEST", help="minimal (the default), debian:bookworm or debian:trixie.")
@click.option("--layout", default="firmware", show_default=True, help="Which MTRR layout.")
@click.option("--cpu", default="qemu64", show_default=True, help="Which CPU, as QEMU calls it.")
@click.option("--cmdline", default="", help="More for the kernel's command line.")
@click.option(
    "--after",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with one test: the shell is in the guest that it leaves.",
)
@offline
def shell(
    kernel: str | None, guest: str | None, layout: str, cpu: str, cmdline: str, after: Path | None
) -> None:
    """A guest of one's own: a shell on its console, or in a guest that a test has brought into some state.

    On the console Ctrl-A X ends QEMU, and so does exit.

    \b
    Examples:
      memtype shell
      memtype shell --kernel debian:bullseye --layout wb-device
      memtype shell --guest debian:trixie
      memtype shell --kernel debian:6.1 --after disagreement.py
    """
    from pytest_memtype.commands.shell_work import after_test, on_console, typed
    from pytest_memtype.host.progress import shown
    from pytest_memtype.machine.hardware import Hardware
    from pytest_memtype.machine.layout_file import layout_folders, load_layout
    from pytest_memtype.run.session import GuestKind
    from pytest_memtype.run.variants import all_tested

    # What is written wrongly is found before anything is fetched.
    found, hardware = (
        load_layout(layout, layout_folders([after] if after else [])),
        Hardware(cpu=cpu, cmdline=cmdline),
    )
    with shown(Console(stderr=True)) as progress:
        tested = all_tested([kernel] if kernel else None, [guest] if guest else None, progress=progress)[0]
        kind = GuestKind(tested.kernel, found, hardware, tested.system)
        if after is None:
            sys.exit(on_console(kind, progress=progress))
        after_test(kind, after, lines=typed("guest# "), show=click.echo, progress=progress)
