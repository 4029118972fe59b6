"""The listing of U-Boot's command ``mtrr`` (mtrr_list(), cmd/x86/mtrr.c)."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from pytest_memtype.dumps.facts import Mtrrs, Register
from pytest_memtype.dumps.text import Cursor
from pytest_memtype.x86.memtype import MemType

_HEADING: Final = re.compile(r"\bReg Valid Write-type +Base +\|\| +Mask +\|\|")
_REGISTER: Final = re.compile(
    r"^\s*(?P<number>\d{1,2}) +(?P<valid>[YN]) +(?P<type>[A-Z][a-z]+|[23]) +(?P<base>[0-9a-f]{16}) "
    r"(?P<mask>[0-9a-f]{16}) [0-9a-f]{16}\b"
)
_BEGINNING: Final = re.compile(r"^\s*\d{1,2} +[YN] ")
_TYPES: Final = {
    "Uncacheable": MemType.UC,
    "Combine": MemType.WC,
    "Through": MemType.WT,
    "Protect": MemType.WP,
    "Back": MemType.WB,
}


def u_boot(cursor: Cursor) -> list[Mtrrs]:
    """The listings in a text, of each CPU one."""
    found: list[Mtrrs] = []
    variable: list[Register] = []
    unused: list[int] = []
    lines: list[int] = []
    cut: list[int] = []

    def end() -> None:
        if variable or unused:
            top = max((each.mask or 0 for each in variable), default=0).bit_length() or None
            registers = Mtrrs("U-Boot", variable=tuple(variable), unused=tuple(unused))
            found.append(replace(registers, mask_bits=top, complete=not cut, lines=tuple(lines)))
        variable.clear()
        unused.clear()
        lines.clear()
        cut.clear()

    inside = False
    for index, row in enumerate(cursor.rows):
        if _HEADING.search(row.message):
            end()
            inside = True
            lines += cursor.use(index)
            continue
        match = _REGISTER.match(row.message) if inside else None
        if match is None:
            if inside and _BEGINNING.match(row.message):
                cut.append(row.number)
                continue
            inside = inside and not row.message.strip()
            continue
        lines += cursor.use(index)
        number = int(match["number"])
        if match["valid"] == "N":
            unused.append(number)
            continue
        base, mask = int(match["base"], 16), int(match["mask"], 16)
        variable.append(Register(number, base, _TYPES.get(match["type"]), mask=mask, line=row.number))
    end()
    return found
