"""The panic that a text ends with."""

from __future__ import annotations

import re
from typing import Final

from pytest_memtype.dumps.facts import Line
from pytest_memtype.dumps.text import Cursor

# vpanic(), kernel/panic.c. Behind the stacks it is said once more: "---[ end Kernel panic - not syncing: ".
_PANIC: Final = re.compile(r"(?<!end )\bKernel panic - not syncing: (?P<why>.{1,160})")


def panic(cursor: Cursor) -> Line | None:
    """The last panic of a boot with its reason; None where there is none.

    :param cursor: The lines of the boot.
    """
    for index in range(len(cursor.rows) - 1, -1, -1):
        row = cursor.rows[index]
        match = _PANIC.search(row.message) if "Kernel panic" in row.message else None
        if match is None:
            continue
        # Words before it, and no prefix of the log's: somebody tells of a panic.
        if row.prefixed or not row.message[: match.start()].strip():
            cursor.use(index)
            return Line(row.number, match["why"].strip())
    return None
