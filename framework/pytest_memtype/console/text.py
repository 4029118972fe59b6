"""The text of a console, as a terminal may show it, and the line of a kernel's panic."""

from __future__ import annotations

from typing import Final

_PANIC: Final = "Kernel panic - not syncing"


def sanitize(data: bytes) -> str:
    """Text that a terminal shows as it is: what could move its cursor or hide text becomes an escape.

    Lines end with a bare newline.
    """
    text = data.decode(errors="backslashreplace").replace("\r\n", "\n")
    return "".join(
        character
        if character.isprintable() or character in "\n\t"
        else character.encode("unicode_escape").decode()
        for character in text
    )


def panic_line(text: str) -> str | None:
    """The first line in which a kernel says that it panicked, from those words on; None if there is none."""
    for line in text.splitlines():
        if _PANIC in line:
            return line[line.index(_PANIC) :]
    return None
