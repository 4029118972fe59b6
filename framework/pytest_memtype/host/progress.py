"""Telling a person what a slow step is doing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

Progress = Callable[[str], None]
"""Called with one short line at the start of each slow stage, or with a :class:`Remark`."""


class Remark(str):
    """A line that the user should be able to read afterwards: it stays where that of a stage goes."""

    __slots__ = ()


_said: set[str] = set()


def say_once(remark: str) -> bool:
    """Whether this process hasn't said it yet; from now on it has.

    What is wrong with a host is found by each part of a run, and by each of its workers.
    """
    is_new = remark not in _said
    _said.add(remark)
    return is_new


def silent(stage: str) -> None:
    """The progress of a caller that shows none."""


def is_terminal(console: Console) -> bool:
    """Whether a person looks at what is printed there, so that it may be drawn over, and is cut at a width.

    Of rich's word, which FORCE_COLOR makes yes, that is only half: a log of CI has colours and is a file.
    """
    return console.is_terminal and console.file.isatty()


@contextmanager
def shown(console: Console) -> Iterator[Progress]:
    """Show stages on ``console``: a spinner on a terminal, plain lines elsewhere.

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
