"""How the subcommands print."""

from __future__ import annotations

import codecs
import io
import sys

from rich.console import Console
from rich.text import Text

from pytest_memtype.host.progress import is_terminal

#: What stands for characters of ours that an output of another encoding hasn't, one for one: columns stay.
_INSTEAD = str.maketrans({"●": "*", "○": "o", "█": "#", "≠": "!", "…": ".", "→": ">"})


def print_anywhere() -> None:
    """Have nothing that is printed fail because the terminal's encoding lacks a character."""
    codecs.register_error("memtype", _instead)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and codecs.lookup(stream.encoding).name != "utf-8":
            stream.reconfigure(errors="memtype")


def _instead(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_INSTEAD)
    return "".join(each if each.isascii() else "?" for each in text), error.end


def stdout() -> Console:
    """Standard output."""
    console = Console()
    # What goes into a file or a pipe is read by programs: nothing of it is cut.
    return console if is_terminal(console) else Console(width=250)


def literal(text: str) -> Text:
    """Text in which square brackets are just that."""
    return Text(text)
