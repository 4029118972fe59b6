"""Output in any encoding. Needs no rich, which most of the time of ``memtype --help`` would go to."""

from __future__ import annotations

import codecs
import io
import sys

#: Replacements for our characters in an output whose encoding lacks them, one for one, so that columns stay.
_INSTEAD = str.maketrans({"●": "*", "○": "o", "█": "#", "≠": "!", "…": ".", "→": ">"})


def print_anywhere() -> None:
    """Replace characters that the terminal's encoding lacks, so that printing them never fails.

    Lines come at once, too: in a CI's log, which takes both streams, those of stderr stand where they belong.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    codecs.register_error("memtype", _instead)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and codecs.lookup(stream.encoding).name != "utf-8":
            stream.reconfigure(errors="memtype")


def _instead(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_INSTEAD)
    return "".join(each if each.isascii() else "?" for each in text), error.end
