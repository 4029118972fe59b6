"""Addresses and sizes as people write them: ``256M``, ``4K``, ``2048MB``, ``0xFD000000``."""

from __future__ import annotations

import re
from typing import Final

UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_PATTERN = re.compile(r"(0x[0-9a-f]+|[0-9]+)(?:([kmgt])(?:i?b)?)?", re.ASCII | re.IGNORECASE)


def parse_size(value: int | str) -> int:
    """A number of bytes: an int as it is, or decimal or ``0x`` text with a binary unit K, M, G or T.

    ``KB`` and ``KiB`` are the same as ``K``: the kernel means 1024 with all of them.

    :param value: Bytes, or text such as ``"16M"``.
    :raises ValueError: The text isn't such a number.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _PATTERN.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} isn't a number of bytes; write it like 4096, 0x1000, 4K, 16M, 1G or 1T")
    return int(match[1], 16 if match[1][1:2] in ("x", "X") else 10) * UNITS[(match[2] or "").upper()]


def format_size(size: int) -> str:
    """A number of bytes in the largest unit that leaves a whole number: ``16M``, ``4K``, ``6145``."""
    for unit, factor in reversed(UNITS.items()):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)
