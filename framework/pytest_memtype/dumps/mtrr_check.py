"""Coreboot's word for it that a CPU's MTRRs are on (src/cpu/x86/mtrr/mtrr.c, x86_mtrr_check())."""

from __future__ import annotations

import re
from typing import Final

from pytest_memtype.dumps.facts import Mtrrs
from pytest_memtype.dumps.text import Cursor

_HEAD: Final = re.compile(r"^\s*MTRR check\s*$")
_ON: Final = re.compile(r"^\s*(?P<which>Fixed|Variable) MTRRs *: (?P<on>En|Dis)abled\b")


def mtrr_check(cursor: Cursor) -> list[Mtrrs]:
    """Listings without registers, one for all CPUs of which a text says the same."""
    found: dict[tuple[bool, bool], list[int]] = {}
    for index, row in enumerate(cursor.rows):
        if not _HEAD.match(row.message):
            continue
        below = [_ON.match(each.message) for each in cursor.rows[index + 1 : index + 3]]
        on = {match["which"]: match["on"] == "En" for match in below if match is not None}
        if len(on) == 2:
            found.setdefault((on["Variable"], on["Fixed"]), []).extend(cursor.use(index, 3))
    return [
        Mtrrs("coreboot", enabled=enabled, fixed_enabled=fixed, lines=tuple(lines))
        for (enabled, fixed), lines in found.items()
    ]
