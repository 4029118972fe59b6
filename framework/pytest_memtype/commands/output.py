"""Output of the subcommands, on terminals of any encoding, and in files."""

from __future__ import annotations

import codecs
import io
import sys

from rich.console import Console
from rich.text import Text

from pytest_memtype.host.progress import is_terminal

#: Replacements for our characters in an output whose encoding lacks them, one for one, so that columns stay.
_INSTEAD = str.maketrans({"●": "*", "○": "o", "█": "#", "≠": "!", "…": ".", "→": ">"})


def print_anywhere() -> None:
    """Replace characters that the terminal's encoding lacks, so that printing them never fails."""
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
    """A console of rich for the standard output."""
    console = Console()
    # Files and pipes are read by programs: no line is cut.
    return console if is_terminal(console) else Console(width=250)


def literal(text: str) -> Text:
    """Text in which square brackets are printed, and not read as markup."""
    return Text(text)
