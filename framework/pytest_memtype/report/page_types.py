"""The types of a mapping's pages, in words: ``"WC 0-1, - 2-3"``."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

_MANY = 64
"""Pages that a record lists one by one."""


def run(first: int, pages: int, memtype: str) -> str:
    """Some pages of one type, counted from 0."""
    return f"{memtype} {first}" if pages == 1 else f"{memtype} {first}-{first + pages - 1}"


def page_types(types: str | Sequence[str | None]) -> str:
    """``"WC 0-1, - 2-3"``, or only the type where all pages have one. What is in words stays."""
    if isinstance(types, str):
        return types
    if len(set(types)) == 1:
        return types[0] or "-"
    words, first = [], 0
    for memtype, pages in ((key, len(list(group))) for key, group in itertools.groupby(types)):
        words.append(run(first, pages, memtype or "-"))
        first += pages
    return ", ".join(words)


def recorded(types: str | list[str | None] | None) -> str | list[str | None] | None:
    """As a record has them: a mapping of 1 GiB has 262,144, which nobody reads one by one."""
    return page_types(types) if isinstance(types, list) and len(types) > _MANY else types
