"""The MTRRs as Linux prints them at boot with ``mtrr=debug`` (6.5), ``mtrr.show`` or without, by version.

``print_mtrr_state()`` of arch/x86/kernel/cpu/mtrr/generic.c, with AMD's TOM2; and that of Xen's
xen/arch/x86/cpu/mtrr/generic.c, which prints small digits.
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
_FIXED_RANGE: Final = re.compile(
    rf"^\s*(?P<start>[0-9A-F]{{5}})-(?P<end>[0-9A-F]{{5}}) (?P<type>{TYPE})", re.I
)
_VARIABLE: Final = re.compile(r"\bMTRR variable ranges (?P<state>en|dis)abled:")
_REGISTER: Final = re.compile(
    rf"^\s*(?P<number>\d{{1,3}}) base (?P<base>[0-9A-F]{{6,16}}) mask (?P<mask>[0-9A-F]{{6,16}}) "
    rf"(?P<type>{TYPE})",
    re.I,
)
_BEGINNING: Final = re.compile(r"^\s*\d{1,3} base [0-9A-F]", re.I)
_UNUSED: Final = re.compile(r"^\s*(?P<number>\d{1,3}) disabled\s*$")
# Linux prints it where what no range covers there is WB (amd_special_default_mtrr()), Xen always, and
# whether it is so (as of 4.17).
_TOM2: Final = re.compile(
    r"\bTOM2: (?:(?P<linux>[0-9a-f]{8,16}) aka \d{1,9}M|(?P<xen>[0-9a-f]{12})(?P<wb> \(WB\))?\s*$)"
)
# Linux prints the register once more where it looks for buses, set to be WB or not (early_fill_mp_bus_info()
# of arch/x86/pci/amd_bus.c, 2.6.34).
_BUSES: Final = re.compile(r"\bnode \d+ link \d+: |\bbus: \[|\bbus: \d\d index |\bTOM: ")

_HEADINGS: Final = re.compile(r"\bMTRR (?:default type:|(?:fixed|variable) ranges)")

_MOST_ROWS: Final = 400
#: Lines of others in between.
_MOST_MISSED: Final = 6
#: Lines of somebody's words in between, where the numbers go on behind them.
_MOST_WORDS: Final = 60


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
    tom2_write_back: bool = False
    source: str = "mtrr=debug"
    at_registers: bool = False
    digits: int = 0
    complete: bool = True
    lines: list[int] = field(default_factory=list)

    def take(self, text: str, row: Row) -> bool:
        """Take a line, if it is one of a listing's."""
        registers = self.at_registers
        self.at_registers = False
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
            self.at_registers = True
        elif (self.enabled is not None or self.variable) and (match := _UNUSED.match(text)):
            self.unused.append(int(match["number"]))
            self.at_registers = True
        elif registers and (match := _TOM2.search(text)):
            self.tom2 = int(match["linux"] or match["xen"], 16)
            self.tom2_write_back = match["linux"] is not None or match["wb"] is not None
        else:
            self.at_registers = registers
            return False
        if "(XEN)" in row.text:
            self.source = "Xen"
        return True

    def miss(self, row: Row) -> None:
        """Note a line that isn't one of a listing's, as it is."""
        lost = _BEGINNING.match(row.message) or (self.at_registers and "TOM2:" in row.message)
        self.complete = self.complete and not lost
        self.at_registers = self.at_registers and not row.message.strip()

    def numbers(self) -> list[int]:
        """The registers that were read, used or not."""
        return [*(each.number for each in self.variable), *self.unused]

    def is_rest_of(self, other: _Listing) -> bool:
        """Whether it begins where another, far above, has ended, and without a heading."""
        headed = self.default is not None or self.enabled is not None
        mine, theirs = self.numbers(), other.numbers()
        return not headed and bool(mine and theirs) and min(mine) == max(theirs) + 1

    def goes_on(self, text: str) -> bool | None:
        """Whether a line is a register above those that were read; None for one that is of no listing."""
        match = _REGISTER.match(text) or _UNUSED.match(text)
        if match is None:
            return False if _HEADINGS.search(text) else None
        return int(match["number"]) > max(self.numbers(), default=-1)

    def facts(self) -> Mtrrs:
        return Mtrrs(
            self.source,
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
            tom2_write_back=self.tom2_write_back if self.tom2 else None,
            # Headings alone have lost theirs.
            complete=self.complete and bool(self.variable or self.unused or self.enabled is False),
            lines=tuple(self.lines),
        )


def mtrr_debug(cursor: Cursor) -> list[Mtrrs]:
    """The listings in a text."""
    listings: list[_Listing] = []
    index = 0
    while index < len(cursor.rows):
        message = cursor.rows[index].message
        # Whoever looked for "base" or "mask" in the log has no headings.
        if not any(each.search(message) for each in (_REGISTER, _FIXED_RANGE, _HEADINGS)):
            if "TOM2:" in message and _among_buses(cursor, index):
                cursor.use(index)
            index += 1
            continue
        listing, index = _listing(cursor, index)
        if listing.lines:
            if listings and listing.is_rest_of(listings[-1]):
                listings[-1].complete = listing.complete = False
            listings.append(listing)
    return [each.facts() for each in listings]


def _listing(cursor: Cursor, start: int) -> tuple[_Listing, int]:
    listing, index, missed = _Listing(), start, 0
    end = start + 1
    above = cursor.rows[max(0, start - _MOST_MISSED) : start]
    listing.complete = not any(
        _BEGINNING.match(row.message) for row in above if row.number not in cursor.used
    )
    while index < min(start + _MOST_ROWS, len(cursor.rows)):
        row = cursor.rows[index]
        if missed >= _MOST_MISSED and not _goes_on(cursor, index, listing):
            break
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
            listing.miss(row)
            index, missed = index + 1, missed + 1
    return listing, end


def _goes_on(cursor: Cursor, start: int, listing: _Listing) -> bool:
    """Whether registers go on behind somebody's words: the kernel prints each, used or not."""
    for row in cursor.rows[start : start + _MOST_WORDS]:
        answer = listing.goes_on(row.message)
        if answer is not None:
            return answer
    return False


def _among_buses(cursor: Cursor, index: int) -> bool:
    beside = cursor.rows[max(0, index - 1) : index + 2]
    return any(_BUSES.search(row.message) for row in beside)


def _register(match: re.Match[str], line: int) -> Register:
    return Register(
        int(match["number"]),
        int(match["base"], 16),
        type_of_word(match["type"]),
        mask=int(match["mask"], 16),
        line=line,
    )
