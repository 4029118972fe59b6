"""The command ``memtype bisect``."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from pytest_memtype.bisect import search
from pytest_memtype.bisect.apart import try_apart
from pytest_memtype.commands.offline import offline
from pytest_memtype.host.progress import shown
from pytest_memtype.machine.vcpu_registers import usable_qemu


@click.command()
@click.argument("test")
@click.option("--good", required=True, metavar="SPEC", help="A kernel on which the test passes.")
@click.option("--bad", required=True, metavar="SPEC", help="A kernel on which it fails.")
@click.option(
    "--jobs",
    type=click.IntRange(1, 1000),
    default=1,
    metavar="N",
    show_default=True,
    help="How many kernels to try at once; each takes a core and a guest.",
)
@offline
def bisect(test: str, good: str, bad: str, jobs: int) -> None:
    """Find the two neighbouring kernels between which a test began to fail.

    TEST is pytest's node id without a kernel. Tried are the cloud kernels that Debian's mirror has between
    the two; one that can't be is skipped. An interrupted search goes on when the command is repeated. With
    tree:PATH, a script for git bisect run is printed instead.

    \b
    Examples:
      memtype bisect testcases/test_ram.py::test_it --good debian:6.1 --bad debian:6.12
      memtype bisect my_test.py::test_it --good tree:$HOME/linux --bad tree:$HOME/linux > bisect.sh
    """
    if "tree" in (good.partition(":")[0], bad.partition(":")[0]):
        click.echo(search.git_script(test, good=good, bad=bad), nl=False)
        return
    with shown(Console(stderr=True)) as progress:
        # Else its fault would be the answer of every kernel.
        usable_qemu(progress=progress)
        search.bisect(
            test,
            good=good,
            bad=bad,
            folder=Path.cwd() / ".memtype",
            say=click.echo,
            progress=progress,
            try_all=try_apart,
            at_once=jobs,
        )
