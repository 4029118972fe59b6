"""Tables in pytest's summary."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any, Literal

from rich.console import Console

_WIDTH = 120
"""Columns that the tables need, also where pytest takes the terminal for narrower."""


def drawn(pictures: Iterable[Any], *, width: int = _WIDTH, coloured: bool = False) -> str:
    """Render rich's tables and texts.

    :param pictures: Anything that rich can print.
    :param width: Columns.
    :param coloured: Are a terminal's colours wanted? Else it is plain text.
    """
    colours: Literal["standard"] | None = "standard" if coloured else None
    console = Console(file=io.StringIO(), width=width, force_terminal=coloured, color_system=colours)
    with console.capture() as capture:
        for picture in pictures:
            console.print(picture, highlight=False)
    return capture.get()


def print_to(terminalreporter: Any, pictures: Iterable[Any]) -> None:
    """Print rich's tables and texts in pytest's summary.

    :param terminalreporter: pytest's plugin of that name, whose terminal is written to.
    :param pictures: Anything that rich can print.
    """
    writer = terminalreporter._tw
    width = max(_WIDTH, writer.fullwidth)
    terminalreporter.write(drawn(pictures, width=width, coloured=writer.hasmarkup))
