"""Lines that no machine has shown at one time: of changelogs, of programs, of the difference of two texts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from pytest_memtype.dumps.text import Row

ENTRY: Final = re.compile(
    r"^\* (?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) [A-Z][a-z]{2} +\d{1,2} \d{4} .*<"
    r"|^[a-z][\w.+-]{1,60} \(\S{1,80}\) [\w. -]{1,60}; urgency="
)
"""An entry of rpm's changelog, and of Debian's: what it tells of was mended in that release."""

_ITEM: Final = re.compile(r"\s*[-*+] |\s{2}| -- ")
#: "@@ -1,8 +1,9 @@", with spaces in front where somebody has indented it.
_HUNK: Final = re.compile(
    r"^(?P<indent>\s*)@@ -\d{1,7}(?:,(?P<old>\d{1,6}))? \+\d{1,7}(?:,(?P<new>\d{1,6}))? @@"
)

#: printf's conversions, calls of printk(), and LLVM's form of the end of a string.
_SOURCE: Final = re.compile(
    r"%(?:[sd]\b|#?0?\d{0,2}(?:ll?|L)?[xu](?:\b|MB)|pa\b)|\b(?:pr_[a-z]+|printk\w*|WARN(?:_ON)?(?:_ONCE)?)\(|\\0A\\00\""
    # Regular expressions that find such messages. Markdown, too, has a backslash in front of "[" and ".".
    r"|\[0-9(?:a-fA-F|a-f)?\][+*{]|\\[dswS][+*{]|\(\?[:P!<=]|\.[+*][?$\"')]"
)


def of_changelogs(rows: Sequence[Row]) -> frozenset[int]:
    """The numbers of lines of changelogs: entries and their items, until words of another kind follow.

    :param rows: The lines of a text.
    """
    found = set()
    inside = False
    for row in rows:
        if ENTRY.match(row.text):
            inside = True
        elif row.text.strip() and not _ITEM.match(row.text):
            inside = False
        if inside and not row.prefixed:
            found.add(row.number)
    return frozenset(found)


def of_differences(rows: Sequence[Row]) -> frozenset[int]:
    """The numbers of lines in hunks of ``diff -u``, each of which shows a part of two texts at once.

    :param rows: The lines of a text.
    """
    found = set()
    indent, old, new = "", 0, 0
    for row in rows:
        hunk = _HUNK.match(row.text) if "@@" in row.text else None
        if hunk is not None:
            indent, old, new = hunk["indent"], int(hunk["old"] or 1), int(hunk["new"] or 1)
            continue
        mark = row.text[len(indent) : len(indent) + 1]
        if (old <= 0 and new <= 0) or mark not in (" ", "+", "-", "\t"):
            old = new = 0
            continue
        found.add(row.number)
        old, new = old - (mark != "+"), new - (mark != "-")
    return frozenset(found)


def is_source(row: Row) -> bool:
    """Whether a line is of a program that prints a kernel's messages or looks for them.

    :param row: The line.
    """
    return not row.prefixed and _SOURCE.search(row.text) is not None
