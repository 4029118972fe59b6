"""How the subcommands print."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from pytest_memtype.progress import is_terminal


def stdout() -> Console:
    """Standard output."""
    console = Console()
    # What goes into a file or a pipe is read by programs: nothing of it is cut.
    return console if is_terminal(console) else Console(width=250)


def literal(text: str) -> Text:
    """Text in which square brackets are just that."""
    return Text(text)
