"""The command ``memtype reproduce``."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console

from pytest_memtype.bugs.catalogue import catalogue, known_here
from pytest_memtype.commands.offline import offline
from pytest_memtype.commands.reports import layout_name, read_report
from pytest_memtype.errors import UsageError, harmless
from pytest_memtype.explain.explanation import as_json as as_json_facts
from pytest_memtype.explain.explanation import explain as explained
from pytest_memtype.host.nearest import check_choice
from pytest_memtype.host.progress import shown
from pytest_memtype.machine.accelerator import ACCELERATORS, Wanted
from pytest_memtype.reproduce.files import check_names, leave
from pytest_memtype.reproduce.nearest_kernel import candidates
from pytest_memtype.reproduce.outcome import Outcome, Verdict
from pytest_memtype.reproduce.outcome import reproduce as made_again
from pytest_memtype.reproduce.summary import summary

_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")


@click.command()
@click.argument("file", default="-", metavar="[FILE]")
@click.option("--kernel", "kernels", multiple=True, metavar="SPEC", help="Try these; the first decides.")
@click.option("--accel", default="auto", show_default=True, help="auto, tcg or kvm.")
@click.option(
    "--into",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("reproduced"),
    show_default=True,
    help="The folder for the test, the layout and the summary.",
)
@click.option(
    "--as-bug", metavar="ID", help="Mark the test as the reproducer of a bug: memtype bugs knows it."
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON at the end.")
@offline
def reproduce(
    file: str, kernels: tuple[str, ...], accel: Wanted, into: Path, as_bug: str | None, as_json: bool
) -> None:
    """Make a kernel say again what a report says, and leave a test that does so.

    FILE is the text of a report: a kernel's log, /proc/mtrr, a mail with some of it. Without a file the
    standard input is read.
    The shortest sequence of operations that leads to its messages about memory types is looked for in the
    model of Linux. It is run in a guest: on the kernel that is nearest to the report's of those that can be
    had, and on the newest.

    REPRODUCED: that kernel says the same lines. NOT ON THIS KERNEL: it doesn't. CAN'T: there is no way to
    them, and why. The exit status is 0 for these answers but NOT ON THIS KERNEL, whose is 1; 2 for wrong
    usage, and 3 when the host or a kernel couldn't be used.

    \b
    Examples:
      memtype reproduce dmesg.txt
      dmesg | memtype reproduce
      memtype reproduce dmesg.txt --kernel debian:bookworm --into mine/
      memtype reproduce dmesg.txt --as-bug frame-buffer-uncached
    """
    check_choice("--accel", accel, ACCELERATORS)
    _check_id(as_bug)
    dump = read_report(file)
    name = "report" if file == "-" else layout_name(file)
    check_names(into, name=name, bug=as_bug)
    told = explained(dump, [each.bug for each in catalogue()], name=name)
    with shown(Console(stderr=True)) as progress:
        known = candidates(progress=progress)
        outcome = made_again(dump, known, specs=kernels, accelerator=accel, progress=progress)
    source = "a report" if file == "-" else harmless(Path(file).name)
    files: list[Path] = []
    trouble: UsageError | None = None
    if outcome.verdict is not Verdict.NOTHING:
        try:
            files = leave(outcome, into, name=name, source=source, answer=told.story.answer, bug=as_bug)
        except UsageError as error:
            # What guests have said for minutes is told all the same.
            trouble = error
    if as_json:
        click.echo(json.dumps(as_json_facts(told) | _answer(outcome, files)))
    else:
        test = next((each.name for each in files if each.suffix == ".py"), "")
        click.echo(summary(outcome, source=source, test=str(into / test) if test else ""), nl=False)
        if files:
            click.echo(f"\nwritten: {', '.join(map(str, files))}")
    if trouble is not None:
        raise trouble
    sys.exit(outcome.exit_status)


def _check_id(name: str | None) -> None:
    if name is None:
        return
    if _ID.fullmatch(name) is None:
        raise UsageError(
            f"--as-bug {name!r}: use small letters, digits and dashes, such as bar-stays-uncached"
        )
    taken = next((each for each in known_here()[0] if each.bug.id == name), None)
    if taken is not None:
        raise UsageError(f"--as-bug {name!r}: {taken.path} reproduces a bug of that name; use another")


def _answer(outcome: Outcome, files: list[Path]) -> dict[str, Any]:
    return {
        "reproduce": outcome.verdict.value,
        "why": outcome.why,
        "kernels": [
            {
                "release": each.release,
                "version": each.version,
                "reproduced": each.reproduced,
                "missing": [line.raw for line in each.missing],
                "lines": list(each.lines),
                "trouble": each.trouble,
            }
            for each in outcome.attempts
        ],
        "files": [str(each) for each in files],
    }
