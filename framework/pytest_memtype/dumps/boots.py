"""The boots that a text has logs of: by their banners, and by printk's clock where those are missing."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from pytest_memtype.dumps.banner import banner
from pytest_memtype.dumps.kernel_log import command_line, machine
from pytest_memtype.dumps.text import Cursor, Row

#: The beginnings of lines that a boot has once, and that each has.
_ONCE: Final = re.compile(
    r"tsc: Detected |x86/PAT: Configuration |(?:x86 )?PAT configuration |MTRR default type: |Command line: "
    r"|DMI: "
)


@dataclass(frozen=True)
class _Log:
    """The part of a text from one banner to the next, or all logs of one boot.

    :param release: The release of the banner.
    :param banners: The lines of banners by the form of their prefix, without those that have no prefix.
    :param command_line: The kernel's command line; None if it isn't there.
    :param machine: The machine as its firmware names it; None if it isn't there.
    :param begun: The first time behind the banner; None without times.
    :param latest: The latest time.
    """

    release: str
    banners: dict[str, str] = field(default_factory=dict)
    command_line: str | None = None
    machine: str | None = None
    begun: float | None = None
    latest: float = 0

    def is_of(self, boot: _Log) -> bool:
        """Whether it is a log of a boot that began above it."""
        if self.release != boot.release:
            return False
        if None not in (self.command_line, boot.command_line) and self.command_line != boot.command_line:
            return False
        if None not in (self.machine, boot.machine) and self.machine != boot.machine:
            return False
        # One boot is shown in several forms; in one form its banner is there once, or is there again alone.
        again = boot.command_line is not None and self.begun is not None and self.begun < boot.latest
        both = self.banners.keys() & boot.banners.keys()
        return not any(again or self.banners[form] != boot.banners[form] for form in both)

    def with_log(self, log: _Log) -> _Log:
        """The boot with another log of it."""
        return _Log(
            self.release,
            self.banners | log.banners,
            log.command_line if self.command_line is None else self.command_line,
            log.machine if self.machine is None else self.machine,
            self.begun,
            max(self.latest, log.latest),
        )


def boots(cursor: Cursor) -> list[Cursor]:
    """The parts of a text that are of one boot each; what stands above the first banner is of the first boot.

    A banner that stands there again, as in ``/proc/version``, begins no other boot, nor does the same boot
    in another form. Logs without their first lines are told apart by what each boot says once.
    """
    banners = [(index, match) for index, row in enumerate(cursor.rows) if (match := banner(row)) is not None]
    ends = [*(index for index, _ in banners[1:]), len(cursor.rows)]
    starts = [0]
    boot: _Log | None = None
    for (index, match), end in zip(banners, ends, strict=False):
        log = _log(cursor.rows[index:end], match["release"])
        if boot is None or log.is_of(boot):
            boot = log if boot is None else boot.with_log(log)
        else:
            starts.append(index)
            boot = log
    parts = [cursor.part(start, end) for start, end in pairwise([*starts, len(cursor.rows)])]
    return [boot for part in parts for boot in _by_clock(part)]


def _by_clock(part: Cursor) -> list[Cursor]:
    """The boots of a part: one begins where the clock fell, if a line that each has once follows again.

    The same line at the same time is quoted twice.
    """
    starts, last = [0], 0.0
    fall, fell = 0.0, 0
    seen: dict[tuple[str, str], tuple[float, str]] = {}
    for index, row in enumerate(part.rows):
        if row.time is None:
            continue
        if last - row.time > fall:
            fall, fell = last - row.time, index
        last = row.time
        message = row.message.strip()
        once = _ONCE.match(message)
        if once is None:
            continue
        before, said = seen.setdefault((once[0], _form(row)), (row.time, message))
        if fall and (before != row.time or not _is_alike(said, message)):
            starts.append(fell)
            seen, fall = {(once[0], _form(row)): (row.time, message)}, 0.0
    return [part.part(start, end) for start, end in pairwise([*starts, len(part.rows)])]


def _is_alike(one: str, other: str) -> bool:
    """Whether two lines are one, which may be cut: in a word, as parameters are added in words."""
    shorter, longer = sorted((one, other), key=len)
    return longer.startswith(shorter) and longer[len(shorter) : len(shorter) + 1] != " "


def _form(row: Row) -> str:
    """The form of a line's prefix: "[.]" of dmesg, ":::" of the journal, ":::[.]" of syslog."""
    return re.sub(r"[\w\s]", "", row.text.removesuffix(row.message))


def without_head(part: Cursor) -> tuple[Cursor, Cursor]:
    """The lines of a part above its first banner, and the others."""
    end = next((index for index, row in enumerate(part.rows) if banner(row) is not None), 0)
    return part.part(0, end), part.part(end, len(part.rows))


def _log(lines: list[Row], release: str) -> _Log:
    first = lines[0]
    times = [row.time for row in lines[1:] if row.time is not None]
    return _Log(
        release,
        {_form(first): first.text} if first.prefixed else {},
        command_line(Cursor(lines)),
        machine(Cursor(lines))[0],
        times[0] if times else None,
        max([first.time or 0, *times]),
    )
