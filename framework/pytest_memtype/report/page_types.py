"""The types of a mapping's pages, in words: ``"WC 0-1, - 2-3"``."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

_MANY = 64
"""How many pages a record lists one by one at most."""


def run(first: int, pages: int, memtype: str) -> str:
    """A run of pages of one type, in words: ``"WC 0-1"``.

    :param first: Number of the first page, counted from 0.
    :param pages: How many pages.
    :param memtype: Their type.
    """
    return f"{memtype} {first}" if pages == 1 else f"{memtype} {first}-{first + pages - 1}"


def page_types(types: str | Sequence[str | None]) -> str:
    """The types of a mapping's pages, in words: ``"WC 0-1, - 2-3"``, or only the type where all have one.

    :param types: The type of each page, None where nothing is mapped; text that is in words already stays.
    """
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
    """The types of a mapping's pages, as a record has them: those of more than 64 pages in words.

    A mapping of 1 GiB has 262,144, too many to be read one by one.
    """
    return page_types(types) if isinstance(types, list) and len(types) > _MANY else types
