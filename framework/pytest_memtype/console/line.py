"""Lines of the console: the prefix that printk puts before a message, and the message."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

# kernel/printk/printk.c, print_prefix(): level (console_msg_format=syslog), time (CONFIG_PRINTK_TIME), caller
# (CONFIG_PRINTK_CALLER: task or CPU). printk puts it before every line of a message of several lines.
_LEVEL: Final = r"(?:<\d+>)?"
_TIME: Final = r"\[ *\d+\.\d{6}\]"
_CALLER: Final = r"\[ *(?P<%s>[TC]\d+)\]"
# With a time, it is also found behind what user space has left of a line.
_PREFIX: Final = re.compile(rf"{_LEVEL}{_TIME}(?:{_CALLER % 'caller'})? |^{_LEVEL}{_CALLER % 'only'} |^<\d+>")


@dataclass(frozen=True)
class ConsoleLine:
    """A line of the console.

    :param text: The whole line.
    :param message: The line without the prefix of printk.
    :param stream: The part that it has in common with the other lines of a report: whether it has a prefix of
        printk, and the caller if that is named.
    """

    text: str
    message: str
    stream: tuple[bool, str | None]


def read_line(text: str) -> ConsoleLine:
    """Take a line apart. Text of user space is all message: it has no mark of its own."""
    match = _PREFIX.search(text)
    if match is None:
        return ConsoleLine(text, text, (False, None))
    return ConsoleLine(text, text[match.end() :], (True, match["caller"] or match["only"]))
