"""The MTRRs as Linux prints them at boot with ``mtrr=debug`` (6.5), ``mtrr.show`` or without, by version.

``print_mtrr_state()`` of arch/x86/kernel/cpu/mtrr/generic.c, with AMD's TOM2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from pytest_memtype.dumps.facts import Mtrrs, Register, Span
from pytest_memtype.dumps.text import Cursor, Row
from pytest_memtype.dumps.words import TYPE, type_of_word
from pytest_memtype.x86.memtype import MemType

_DEFAULT: Final = re.compile(rf"\bMTRR default type: (?P<type>{TYPE})")
_FIXED: Final = re.compile(r"\bMTRR fixed ranges (?P<state>en|dis)abled:")
_FIXED_RANGE: Final = re.compile(rf"^\s*(?P<start>[0-9A-F]{{5}})-(?P<end>[0-9A-F]{{5}}) (?P<type>{TYPE})")
_VARIABLE: Final = re.compile(r"\bMTRR variable ranges (?P<state>en|dis)abled:")
_REGISTER: Final = re.compile(
    rf"^\s*(?P<number>\d{{1,3}}) base (?P<base>[0-9A-F]{{6,16}}) mask (?P<mask>[0-9A-F]{{6,16}}) "
    rf"(?P<type>{TYPE})",
    re.I,
)
_BEGINNING: Final = re.compile(r"^\s*\d{1,3} base [0-9A-F]", re.I)
_UNUSED: Final = re.compile(r"^\s*(?P<number>\d{1,3}) disabled\s*$")
_TOM2: Final = re.compile(r"\bTOM2: (?P<tom2>[0-9a-f]{8,16}) aka (?P<megabytes>\d{1,9})M")

_MOST_ROWS: Final = 400
#: Lines of others in between.
_MOST_MISSED: Final = 6


@dataclass
class _Listing:
    """The part of a listing that was read so far."""

    default: MemType | None = None
    enabled: bool | None = None
    fixed_enabled: bool | None = None
    fixed: list[tuple[Span, MemType]] = field(default_factory=list)
    variable: list[Register] = field(default_factory=list)
    unused: list[int] = field(default_factory=list)
    tom2: int | None = None
    digits: int = 0
    complete: bool = True
    lines: list[int] = field(default_factory=list)

    def take(self, text: str, row: Row) -> bool:
        """Take a line, if it is one of a listing's."""
        if match := _DEFAULT.search(text):
            self.default = type_of_word(match["type"])
        elif match := _FIXED.search(text):
            self.fixed_enabled = match["state"] == "en"
        elif match := _VARIABLE.search(text):
            self.enabled = match["state"] == "en"
        elif match := _FIXED_RANGE.match(text):
            memtype = type_of_word(match["type"])
            if memtype is not None:
                self.fixed.append((Span(int(match["start"], 16), int(match["end"], 16)), memtype))
        elif match := _REGISTER.match(text):
            self.digits = max(self.digits, len(match["mask"]))
            self.variable.append(_register(match, row.number))
        elif (self.enabled is not None or self.variable) and (match := _UNUSED.match(text)):
            self.unused.append(int(match["number"]))
        elif match := _TOM2.search(text):
            self.tom2 = int(match["tom2"], 16)
        else:
            return False
        return True

    def facts(self) -> Mtrrs:
        return Mtrrs(
            "mtrr=debug",
            variable=tuple(self.variable),
            unused=tuple(self.unused),
            default=self.default,
            enabled=self.enabled,
            # "disabled" stands there for MTRRs that are off altogether, too.
            fixed_enabled=self.fixed_enabled
            or (False if self.enabled and self.fixed_enabled is False else None),
            fixed=tuple(self.fixed),
            mask_bits=4 * self.digits or None,
            tom2=self.tom2,
            # Linux reads the register only where Tom2ForceMemTypeWB is set (amd_special_default_mtrr()).
            tom2_write_back=True if self.tom2 else None,
            complete=self.complete,
            lines=tuple(self.lines),
        )


def mtrr_debug(cursor: Cursor) -> list[Mtrrs]:
    """The listings in a text."""
    found, index = [], 0
    while index < len(cursor.rows):
        message = cursor.rows[index].message
        # Whoever looked for "base" or "mask" in the log has no headings.
        if _REGISTER.match(message) is None and not any(
            word in message
            for word in ("MTRR default type:", "MTRR fixed ranges", "MTRR variable ranges", "TOM2:")
        ):
            index += 1
            continue
        listing, index = _listing(cursor, index)
        if listing.lines:
            found.append(listing.facts())
    return found


def _listing(cursor: Cursor, start: int) -> tuple[_Listing, int]:
    listing, index, missed = _Listing(), start, 0
    end = start + 1
    above = cursor.rows[max(0, start - _MOST_MISSED) : start]
    listing.complete = not any(
        _BEGINNING.match(row.message) for row in above if row.number not in cursor.used
    )
    while index < min(start + _MOST_ROWS, len(cursor.rows)) and missed < _MOST_MISSED:
        row = cursor.rows[index]
        again = _DEFAULT.search(row.message) and listing.default is not None
        if again or (_VARIABLE.search(row.message) and listing.enabled is not None):
            break
        for text, count in cursor.pieces(index):
            if listing.take(text, row):
                listing.lines += cursor.use(index, count)
                index, missed = index + count, 0
                end = index
                break
        else:
            listing.complete = listing.complete and _BEGINNING.match(row.message) is None
            index, missed = index + 1, missed + 1
    return listing, end


def _register(match: re.Match[str], line: int) -> Register:
    return Register(
        int(match["number"]),
        int(match["base"], 16),
        type_of_word(match["type"]),
        mask=int(match["mask"], 16),
        line=line,
    )
