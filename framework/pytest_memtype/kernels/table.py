"""The progress table of several kernels, which changes in place."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pytest_memtype.host.progress import is_terminal
from pytest_memtype.kernels.prepare import Status
from pytest_memtype.kernels.stage import Stage

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_COLOURS = {"waiting": "dim", "ready": "green", "failed": "red"}


@contextmanager
def live_table(console: Console, specs: Iterable[str]) -> Iterator[Callable[[Status], None]]:
    """Show the progress of kernels: on a terminal a table, elsewhere a line for each change.

    The line of a kernel that failed doesn't say why, which belongs to the caller's message.

    Kernels that are in the cache already aren't mentioned: nothing is shown until one is downloaded,
    built or failed.
    """
    states = {spec: Status(spec) for spec in specs}
    if not is_terminal(console):
        yield lambda status: _print(console, status)
        return
    from rich.live import Live

    # Drawn again at each change only, and once more at the end.
    live = Live(console=console, auto_refresh=False)
    started = threading.Event()

    def show(status: Status) -> None:
        states[status.spec] = status
        if not started.is_set() and not _worth_telling(status):
            return
        if not started.is_set():
            started.set()
            live.start()
        live.update(table(states.values()), refresh=True)

    try:
        yield show
    finally:
        live.stop()


def table(statuses: Iterable[Status]) -> Table:
    """A table with a row for each kernel: spec, stage, seconds of finished stages, and the present work."""
    from rich.table import Table
    from rich.text import Text

    rows = Table(box=None, header_style="bold")
    for column in ("kernel", "stage", "downloaded", "built"):
        rows.add_column(
            column, no_wrap=True, justify="right" if column in ("downloaded", "built") else "left"
        )
    rows.add_column("", overflow="fold")
    for status in statuses:
        took = [
            f"{status.seconds[stage]:.1f} s" if stage in status.seconds else ""
            for stage in (Stage.DOWNLOADING, Stage.BUILDING)
        ]
        text = Text(status.text if status.stage in ("failed", "ready", "waiting") else "")
        rows.add_row(Text(status.spec), Text(status.stage, _COLOURS.get(status.stage, "yellow")), *took, text)
    return rows


def _worth_telling(status: Status) -> bool:
    return status.stage in (Stage.DOWNLOADING, Stage.BUILDING, Stage.FAILED) or bool(status.text)


def _print(console: Console, status: Status) -> None:
    if not _worth_telling(status):
        return
    if status.stage == "failed":
        # The caller's message says why.
        text = "failed"
    elif status.text.startswith(status.stage):
        text = status.text
    else:
        text = f"{status.stage} {status.text}"
    # A line is for programs too: nothing of it is wrapped.
    console.print(f"{status.spec}: {text}", highlight=False, markup=False, soft_wrap=True)
