"""``/proc/iomem`` (kernel/resource.c, r_show())."""

from __future__ import annotations

import re
from typing import Final

from pytest_memtype.dumps.facts import Resource, Span
from pytest_memtype.dumps.text import Cursor

_RESOURCE: Final = re.compile(
    r"^(?P<indent>\s*)(?P<start>[0-9a-f]{8,16})-(?P<end>[0-9a-f]{8,16}) : (?P<name>\S.{0,80})$"
)


def iomem(cursor: Cursor) -> tuple[Resource, ...]:
    """The resources that a text lists. Where all addresses are 0, an unprivileged user has read it."""
    found = []
    for index, row in enumerate(cursor.rows):
        if " : " not in row.message or row.prefixed:
            continue
        match = _RESOURCE.match(row.message.expandtabs())
        if match is None:
            continue
        cursor.use(index)
        start, end = int(match["start"], 16), int(match["end"], 16)
        if 0 < end >= start:
            found.append(
                Resource(Span(start, end, match["name"].strip()), len(match["indent"]) // 2, row.number)
            )
    return tuple(found)
