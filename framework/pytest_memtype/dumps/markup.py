"""Marks of forums and of Markdown's converters in a text, as far as they stand in a log's lines."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

_TAG: Final = re.compile(
    r"\[/?(?:b|center|code|color|font|i|left|quote|size|spoiler|u|url)(?:=[^\[\]]{0,100})?\]", re.I
)
_CLOSING: Final = re.compile(r"\[/(?:b|center|code|color|font|i|left|quote|size|spoiler|u|url)\]", re.I)
# A time of printk's with a backslash before each bracket, as converters from HTML to Markdown write it.
_ESCAPED_TIME: Final = re.compile(r"\\\[ {0,6}\d{1,10}\.\d{6}\\\]")
_ESCAPED: Final = re.compile(r"\\([\[\]_*#+<>~|(){}.!-])")


def without_markup(text: str) -> Callable[[str], str]:
    """A function that takes a line's marks away: of BBCode where the text has it, of Markdown's escapes.

    :param text: The whole text; without a tag that is closed brackets are what a program printed.
    """
    tagged, escaped = _CLOSING.search(text) is not None, _ESCAPED_TIME.search(text) is not None

    def plain(line: str) -> str:
        if tagged:
            line = _TAG.sub("", line)
        return _ESCAPED.sub(r"\1", line) if escaped else line

    return plain
