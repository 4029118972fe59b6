"""Suggestions for a name that doesn't exist: the names that resemble it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from pytest_memtype.errors import UsageError


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: ``; did you mean 'layout' or 'layouts'?``.

    :param word: The name that was written.
    :param known: The names that exist.
    :returns: the end of the message; empty when nothing resembles the name.
    """
    names = sorted(set(known))
    lowered = {name.lower(): name for name in names}
    near = [lowered[each] for each in difflib.get_close_matches(word.lower(), lowered, n=3, cutoff=0.6)]
    # A user who stops in the middle of a long name means a name that begins like it.
    near = near or [name for name in names if len(word) > 1 and name.lower().startswith(word.lower())][:3]
    return f"; did you mean {' or '.join(repr(name) for name in near)}?" if near else ""


def check_choice(option: str, given: str, known: Sequence[str]) -> None:
    """Check the value of an option that takes one of a few words.

    :param option: The option, as the user writes it.
    :param given: The value that was given.
    :param known: The words that the option takes.
    :raises UsageError: the value is none of them.
    """
    if given not in known:
        raise UsageError(f"{option} {given!r}: there is no such choice{unknown(given, known)}")


def unknown(what: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the names near it, and all that exist.

    :param what: The name that was written.
    :param known: The names that exist.
    """
    names = list(known)
    near = did_you_mean(what, names)
    return f"{near} known are {', '.join(names)}" if near else f"; known are {', '.join(names)}"
