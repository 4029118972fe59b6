"""Output of the subcommands, on terminals and in files."""

from __future__ import annotations

from rich.console import Console

from pytest_memtype.host.progress import is_terminal


def stdout() -> Console:
    """A console of rich for the standard output."""
    console = Console()
    # Files and pipes are read by programs: no line is cut.
    return console if is_terminal(console) else Console(width=250)
