"""The command ``memtype evidence``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pytest_memtype.run.evidence import archive, find_run


@click.command()
@click.argument("run", default="latest")
@click.option("--tar", "to", metavar="FILE", required=True, help="The archive: .tar, .tar.gz or .tar.xz.")
@click.option(
    "--most",
    metavar="MIB",
    type=click.IntRange(1, 1 << 20),
    default=200,
    help="Most MiB of files in it [200].",
)
@click.option("--memtype-dir", metavar="DIR", default=".memtype", help="Where runs are [.memtype].")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def evidence(run: str, to: str, most: int, memtype_dir: str, as_json: bool) -> None:
    """Put the records and the logs of failed tests of a run into one archive, as an artifact of CI.

    RUN is the name of a folder below .memtype/runs, its path, or latest, which it is by itself.

    \b
    Examples:
      memtype evidence --tar evidence.tar.gz
      memtype evidence 20261129-101010-4711 --tar evidence.tar.xz --most 50
    """
    made = archive(find_run(run, Path(memtype_dir)), Path(to), most=most << 20)
    if as_json:
        click.echo(
            json.dumps({"file": to, "files": made.files, "bytes": made.size, "left_out": made.left_out})
        )
        return
    more = f"; {len(made.left_out)} are cut or left out, see LEFT-OUT.txt in it" if made.left_out else ""
    click.echo(f"{to}: {made.files} files, {made.size / (1 << 20):.1f} MiB{more}")
