"""Data in files of bounded size, each a script that hands its data to the page.

A page that was opened from a disk may not fetch files, but it may load scripts.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from pytest_memtype.errors import harmless

_BYTES: Final = 1 << 19
"""Of a file, about: a browser on a telephone reads one in less than a tenth of a second."""

MOST_SHOWN: Final = 4096
"""Characters of one text; what is longer is cut, and says so."""


def shown(text: object, most: int = MOST_SHOWN) -> str:
    """Text of a guest as the page shows it: control characters are written out, and it is bounded.

    :param text: The text, or what has one.
    :param most: Characters that are kept.
    """
    whole = str(text)
    cut = whole if len(whole) <= most else f"{whole[:most]} ... ({len(whole) - most} more characters)"
    return harmless(cut)


def script(name: str, data: Any) -> str:
    """A script that hands data to the page under a name.

    :param name: The name.
    :param data: Anything that JSON can hold.
    """
    # Escaped so that it could stand in a page as well; JSON in ASCII is JavaScript.
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return f"memtypeData({json.dumps(name)},{text});\n"


class Chunks:
    """Numbered files ``KIND-N.js``, which are begun anew when one is large enough.

    :param folder: Where they are written.
    :param kind: What they hold.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        self._folder, self._kind = folder, kind
        self._number = 0
        self._size = 0
        self._parts: list[tuple[int, Any]] = []

    def add(self, key: int, data: Any, size: int) -> int:
        """Add data, and tell the number of the file that it is in.

        :param key: Its key in the file; data of one key may be in several files.
        :param data: Anything that JSON can hold.
        :param size: About how many bytes it takes.
        """
        if self._size and self._size + size > _BYTES:
            self.close()
        self._parts.append((key, data))
        self._size += size
        return self._number

    def close(self) -> None:
        """Write what has been added."""
        if self._parts:
            name = f"{self._kind}-{self._number}"
            (self._folder / f"{name}.js").write_text(script(name, self._parts), encoding="ascii")
            self._number += 1
            self._size, self._parts = 0, []
