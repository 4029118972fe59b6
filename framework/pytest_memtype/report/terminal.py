"""Tables in pytest's summary."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

from rich.console import Console

_WIDTH = 120
"""Columns that the tables need, also where pytest takes the terminal for narrower."""


def drawn(pictures: Iterable[Any]) -> str:
    """Render rich's tables and texts as plain text."""
    output = io.StringIO()
    console = Console(file=output, width=_WIDTH, color_system=None)
    for picture in pictures:
        console.print(picture, highlight=False)
    return output.getvalue()


def print_to(terminalreporter: Any, pictures: Iterable[Any]) -> None:
    """Print rich's tables and texts in pytest's summary.

    :param terminalreporter: pytest's plugin of that name, whose terminal is written to.
    :param pictures: Anything that rich can print.
    """
    writer = terminalreporter._tw
    output = io.StringIO()
    console = Console(
        file=output,
        width=max(_WIDTH, writer.fullwidth),
        force_terminal=writer.hasmarkup,
        color_system="standard" if writer.hasmarkup else None,
    )
    for picture in pictures:
        console.print(picture, highlight=False)
    terminalreporter.write(output.getvalue())
