"""The command ``memtype bisect``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from pytest_memtype.bisect import search
from pytest_memtype.bisect.apart import try_apart
from pytest_memtype.commands.offline import offline
from pytest_memtype.errors import UsageError
from pytest_memtype.host.progress import shown
from pytest_memtype.machine.vcpu_registers import usable_qemu

if TYPE_CHECKING:
    from pytest_memtype.cluster.attempts import ClusterAttempts


@click.command()
@click.argument("test")
@click.option("--good", required=True, metavar="SPEC", help="A kernel on which the test passes.")
@click.option("--bad", required=True, metavar="SPEC", help="A kernel on which it fails.")
@click.option(
    "--jobs",
    type=click.IntRange(1, 1000),
    metavar="N",
    help="How many kernels to try at once; each takes a core and a guest. "
    "[default: 1; on a cluster as many as its workers run guests]",
)
@click.option("--scheduler", metavar="ADDRESS", help="Try them on a Dask cluster, as memtype run does.")
@click.option("--insecure-scheduler", is_flag=True, help="Take an address without TLS, too: for a lab alone.")
@offline
def bisect(
    test: str, good: str, bad: str, jobs: int | None, scheduler: str | None, insecure_scheduler: bool
) -> None:
    """Find the two neighbouring kernels between which a test began to fail.

    TEST is pytest's node id without a kernel. Tried are the cloud kernels that Debian's mirror has between
    the two; one that can't be is skipped. An interrupted search goes on when the command is repeated. With
    tree:PATH, a script for git bisect run is printed instead.

    \b
    Examples:
      memtype bisect testcases/test_ram.py::test_lookup --good debian:6.1 --bad debian:6.12
      memtype bisect testcases/test_ram.py::test_lookup --good debian:6.1 --bad debian:6.12 --scheduler local
      memtype bisect my_test.py::test_it --good tree:$HOME/linux --bad tree:$HOME/linux > bisect.sh
    """
    if scheduler is None and insecure_scheduler:
        raise UsageError("--insecure-scheduler belongs to a --scheduler; name one")
    if search.is_tree(good) or search.is_tree(bad):
        if scheduler is not None:
            raise UsageError("--scheduler: git bisect tries one commit after the other, here; give none")
        click.echo(search.git_script(test, good=good, bad=bad), nl=False)
        return
    with ExitStack() as stack:
        progress = stack.enter_context(shown(Console(stderr=True)))
        try_all: search.TryAll = try_apart
        at_once = jobs or 1
        if scheduler is None:
            # Else its fault would be the answer of every kernel.
            usable_qemu(progress=progress)
        else:
            attempts_on = _on_a_cluster()
            cluster = stack.enter_context(
                attempts_on(scheduler, test, insecure=insecure_scheduler, progress=progress)
            )
            # It has sent them the test already.
            try_all, at_once = lambda specs, _test: cluster.try_all(specs), jobs or cluster.at_once
        search.bisect(
            test,
            good=good,
            bad=bad,
            folder=Path.cwd() / ".memtype",
            say=click.echo,
            progress=progress,
            try_all=try_all,
            at_once=at_once,
        )


def _on_a_cluster() -> Callable[..., AbstractContextManager[ClusterAttempts]]:
    try:
        from pytest_memtype.cluster.attempts import attempts_on
    except ModuleNotFoundError as error:
        raise UsageError(
            f"--scheduler: {error.name} isn't installed; pip install 'pytest-memtype[cluster]'"
        ) from None
    return attempts_on
