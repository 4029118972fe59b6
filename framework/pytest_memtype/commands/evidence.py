"""The command ``memtype evidence``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from pytest_memtype.errors import UsageError
from pytest_memtype.host.progress import shown
from pytest_memtype.run.evidence import archive, find_run


@click.command()
@click.argument("run", default="latest")
@click.option("--tar", "to", metavar="FILE", help="The archive: .tar, .tar.gz or .tar.xz.")
@click.option(
    "--most",
    metavar="MIB",
    type=click.IntRange(1, 1 << 20),
    default=200,
    help="Most MiB of files in it [200].",
)
@click.option(
    "--test",
    metavar="ID",
    help="Of a run on a cluster, fetch the logs of this test, which passed, from the worker that keeps them.",
)
@click.option("--scheduler", metavar="ADDRESS", help="The cluster's scheduler [the run's].")
@click.option("--insecure-scheduler", is_flag=True, help="Take an address without TLS, too: for a lab alone.")
@click.option("--memtype-dir", metavar="DIR", default=".memtype", help="Where runs are [.memtype].")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def evidence(
    run: str,
    to: str | None,
    most: int,
    test: str | None,
    scheduler: str | None,
    insecure_scheduler: bool,
    memtype_dir: str,
    as_json: bool,
) -> None:
    """Put the records and the logs of failed tests of a run into one archive, as an artifact of CI.

    RUN is the name of a folder below .memtype/runs, its path, or latest, which it is by itself.

    With --test ID the logs of a test that passed on a cluster come into the run's folder, as if it had
    failed: its worker's machine keeps the newest 256 MiB of those. ID is pytest's node id with the kernel, as
    -v shows it.

    \b
    Examples:
      memtype evidence --tar evidence.tar.gz
      memtype evidence 20261129-101010-4711 --tar evidence.tar.xz --most 50
      memtype evidence --test 'test_it.py::test_maps[debian:6.1]'
    """
    if to is None and test is None:
        raise UsageError("memtype evidence: nothing to do; name an archive with --tar, or a test with --test")
    if test is None and (scheduler is not None or insecure_scheduler):
        raise UsageError("--scheduler and --insecure-scheduler belong to a --test; name one")
    folder = find_run(run, Path(memtype_dir))
    facts: dict[str, Any] = {}
    if test is not None:
        logs = _fetched(folder, test, scheduler, insecure_scheduler)
        files = [path for path in logs.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
        facts |= {"test": test, "folder": str(logs), "logs": len(files)}
        if not as_json:
            click.echo(f"{logs}: {len(files)} files, {size / (1 << 20):.1f} MiB")
    if to is not None:
        made = archive(folder, Path(to), most=most << 20)
        facts |= {"file": to, "files": made.files, "bytes": made.size, "left_out": made.left_out}
        if not as_json:
            more = (
                f"; {len(made.left_out)} are cut or left out, see LEFT-OUT.txt in it" if made.left_out else ""
            )
            click.echo(f"{to}: {made.files} files, {made.size / (1 << 20):.1f} MiB{more}")
    if as_json:
        click.echo(json.dumps(facts))


def _fetched(run: Path, test: str, scheduler: str | None, insecure: bool) -> Path:
    try:
        from pytest_memtype.cluster.fetch import fetch
    except ModuleNotFoundError as error:
        raise UsageError(
            f"--test: {error.name} isn't installed; pip install 'pytest-memtype[cluster]'"
        ) from None
    with shown(Console(stderr=True)) as progress:
        return fetch(run, test, scheduler=scheduler, insecure=insecure, progress=progress)
