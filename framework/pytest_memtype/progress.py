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
    if not is_terminal(console):
        # A line is for programs too: nothing of it is wrapped.
        yield lambda stage: console.print(stage, highlight=False, markup=False, soft_wrap=True)
        return
    # Imported here because a warm start draws no spinner and rich is slow to load.
    from rich.markup import escape
    from rich.status import Status

    status = Status("", console=console)

    def show(stage: str) -> None:
        if isinstance(stage, Remark):
            console.print(stage, highlight=False, markup=False, soft_wrap=True)
            return
        status.update(escape(stage))
        status.start()

    try:
        yield show
    finally:
        status.stop()
