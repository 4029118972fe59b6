"""Progress of slow steps, shown to a person."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

Progress = Callable[[str], None]
"""Called with one short line at the start of each slow stage, or with a :class:`Remark`."""


class Remark(str):
    """A line of progress that stays on the terminal, where the line of a stage is replaced."""

    __slots__ = ()


_said: set[str] = set()


def say_once(remark: str) -> bool:
    """Whether a remark is new to this process; from now on it isn't.

    A problem of a host is found by each part of a run, and by each of its workers.
    """
    is_new = remark not in _said
    _said.add(remark)
    return is_new


def silent(stage: str) -> None:
    """Show no progress."""


def is_terminal(console: Console) -> bool:
    """Whether a person looks at a console, so that output may be drawn over, and is cut at a width.

    rich's own answer, which FORCE_COLOR makes yes, is only half of that: a log of CI has colours, but is a
    file.
    """
    return console.is_terminal and not is_log(console.file)


def is_log(file: IO[str]) -> bool:
    """Whether what is printed is kept in a log, of whole lines without colours.

    It is one without a terminal, and on one too where ``CI`` or ``NO_COLOR`` is set: services of CI may give
    their jobs a terminal, which they keep all of.
    """
    return not file.isatty() or any(os.environ.get(name) for name in ("CI", "NO_COLOR"))


@contextmanager
def shown(console: Console) -> Iterator[Progress]:
    """Show stages on a console: a spinner on a terminal, plain lines elsewhere.

    Nothing is printed when nothing slow happens.
    """

    def line(stage: str) -> None:
        if isinstance(stage, Remark):
            say_once(stage)
        # A line is for programs too: nothing of it is wrapped.
        console.print(stage, highlight=False, markup=False, soft_wrap=True)

    if not is_terminal(console):
        yield line
        return
    # Imported here because a warm start draws no spinner and rich is slow to load.
    from rich.markup import escape
    from rich.status import Status

    status = Status("", console=console)

    def show(stage: str) -> None:
        if isinstance(stage, Remark):
            line(stage)
            return
        status.update(escape(stage))
        status.start()

    try:
        yield show
    finally:
        status.stop()
