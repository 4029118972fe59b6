"""What the benchmarks share: a guest to measure, and how a result is shown."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from rich.console import Console
from rich.table import Table

from pytest_memtype.commands.output import stdout
from pytest_memtype.guest.guest import Guest
from pytest_memtype.host.progress import shown
from pytest_memtype.host.resources import cache_directory
from pytest_memtype.kernels.bundle import bundle
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.layout_file import load_layout
from pytest_memtype.run.boot import GuestPlan, cloned

KERNEL = "debian:bookworm"


class Bench:
    """Guests of the default kernel, with a template that is ready.

    :param folder: For logs.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        with shown(Console(stderr=True)) as progress:
            made = bundle(KERNEL, progress=progress)
            layout = load_layout("firmware", [])
            self.plan = GuestPlan(made.image, made.initramfs, layout, Hardware(), launcher=made.launcher)
            self._progress = progress
            self.clone().machine.close()

    def logs(self) -> Path:
        """A new folder's path."""
        self._count += 1
        return self._folder / str(self._count)

    def clone(self) -> Guest:
        """A fresh clone."""
        cache = cache_directory() / "templates"
        return cloned(self.plan, logs=self.logs(), cache=cache, progress=self._progress)


@contextlib.contextmanager
def bench() -> Iterator[Bench]:
    """A bench whose logs are gone after the block."""
    with tempfile.TemporaryDirectory(prefix="memtype-benchmark-") as folder:
        yield Bench(Path(folder))


def milliseconds(action: Callable[[], object]) -> float:
    """How long ``action`` takes."""
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1000


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table for people."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*(f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in row))
    stdout().print(table)


#: None where there is no such figure.
Figure: TypeAlias = "float | Mapping[str, Figure] | None"


def came(figures: Mapping[str, Figure], into: Path | None) -> None:
    """One JSON line for figures that have come: a benchmark of hours that ends early keeps what it had.

    :param into: A file that gets the line, too, behind those of earlier benchmarks.
    """
    line = json.dumps(_rounded(figures))
    print(line, flush=True)
    if into is not None:
        with into.open("a") as file:
            file.write(f"{line}\n")


def finish(figures: Mapping[str, Figure]) -> None:
    """One JSON line for programs, the last that a benchmark prints."""
    print(json.dumps(_rounded(figures)))


def _rounded(figure: Figure) -> object:
    if isinstance(figure, Mapping):
        return {name: _rounded(each) for name, each in figure.items()}
    return None if figure is None else round(figure, 3)
