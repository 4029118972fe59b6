"""The command ``memtype selftests``."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pytest_memtype.commands.offline import offline
from pytest_memtype.commands.output import stdout
from pytest_memtype.host.nearest import check_choice
from pytest_memtype.host.progress import shown
from pytest_memtype.kernels import selftests as built
from pytest_memtype.kernels.ready import ready
from pytest_memtype.kernels.sets import DEFAULT
from pytest_memtype.machine.accelerator import ACCELERATORS, Wanted
from pytest_memtype.machine.layout_file import layout_folders, load_layout
from pytest_memtype.run.options import DEFAULT_LAYOUT
from pytest_memtype.run.selftests import Selftest, run_selftests

FAILED: Final = 1


@click.command()
@click.option("--kernel", "kernels", multiple=True, metavar="SPEC", help="Which kernel; may be repeated.")
@click.option("--layout", default=DEFAULT_LAYOUT, show_default=True, help="Which MTRR layout.")
@click.option("--accel", default="auto", show_default=True, help="auto, tcg or kvm.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
@offline
def selftests(kernels: tuple[str, ...], layout: str, accel: Wanted, as_json: bool) -> None:
    """Run the kernel's own tests of memory types in guests: pfnmap, mremap, and CPA's self-test.

    They are built from Debian's newest package of the kernel's sources, and run on older kernels, too. Those
    of pfnmap map RAM by /dev/mem, which most kernels forbid, and the test device by sysfs. Ends with status 1
    when one fails.

    \b
    Examples:
      memtype selftests
      memtype selftests --kernel debian:bookworm --kernel tree:/home/me/linux
    """
    check_choice("--accel", accel, ACCELERATORS)
    programmed = load_layout(layout, layout_folders())
    failed = False
    found: list[dict[str, object]] = []
    made = [status.made for status in ready(list(kernels) or DEFAULT)]
    with shown(Console(stderr=True)) as progress:
        tests = built.selftests(progress=progress)
    for kernel in made:
        assert kernel is not None
        with shown(Console(stderr=True)) as progress:
            results = list(
                run_selftests(kernel, tests, layout=programmed, accelerator=accel, progress=progress)
            )
        failed = failed or any(each.subtest.result == "failed" for each in results)
        if as_json:
            found.append({"kernel": kernel.release, "results": [_json(each) for each in results]})
        else:
            _show(kernel.release, tests.version, results)
    if as_json:
        click.echo(json.dumps({"source": tests.version, "kernels": found}))
    sys.exit(FAILED if failed else 0)


def _json(each: Selftest) -> dict[str, str]:
    return {"run": each.run, "test": each.subtest.name, "result": each.subtest.result} | (
        {"reason": each.subtest.reason} if each.subtest.reason else {}
    )


def _show(release: str, source: str, results: list[Selftest]) -> None:
    console = stdout()
    console.print(f"{release}, tests of {source}", markup=False, highlight=False)
    table = Table(box=None, header_style="bold")
    for column in ("run", "test", "result", "because"):
        table.add_column(column, overflow="fold")
    for each in results:
        cells = (each.run, each.subtest.name, each.subtest.result, each.subtest.reason)
        table.add_row(*(Text(cell) for cell in cells))
    console.print(table)
    counts = Counter(each.subtest.result for each in results)
    console.print(", ".join(f"{count} {result}" for result, count in sorted(counts.items())), highlight=False)
