"""The boots that a text has logs of: by their banners."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise

from pytest_memtype.dumps.banner import banner
from pytest_memtype.dumps.kernel_log import command_line
from pytest_memtype.dumps.text import Cursor, Row


@dataclass(frozen=True)
class _Log:
    """The part of a text from one banner to the next, or all logs of one boot.

    :param release: The release of the banner.
    :param banners: The lines of banners by the form of their prefix, without those that have no prefix.
    :param command_line: The kernel's command line; None if it isn't there.
    :param begun: The first time behind the banner; None without times.
    :param latest: The latest time.
    """

    release: str
    banners: dict[str, str] = field(default_factory=dict)
    command_line: str | None = None
    begun: float | None = None
    latest: float = 0

    def is_of(self, boot: _Log) -> bool:
        """Whether it is a log of a boot that began above it."""
        if self.release != boot.release:
            return False
        if None not in (self.command_line, boot.command_line) and self.command_line != boot.command_line:
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
            self.begun,
            max(self.latest, log.latest),
        )


def boots(cursor: Cursor) -> list[Cursor]:
    """The parts of a text that are of one boot each; what stands above the first banner is of the first boot.

    A banner that stands there again, as in ``/proc/version``, begins no other boot, nor does the same boot
    in another form.
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
    return [cursor.part(start, end) for start, end in pairwise([*starts, len(cursor.rows)])]


def without_head(part: Cursor) -> tuple[Cursor, Cursor]:
    """The lines of a part above its first banner, and the others."""
    end = next((index for index, row in enumerate(part.rows) if banner(row) is not None), 0)
    return part.part(0, end), part.part(end, len(part.rows))


def _log(lines: list[Row], release: str) -> _Log:
    first = lines[0]
    # "[.]" of dmesg, ":::" of the journal, ":::[.]" of syslog.
    form = re.sub(r"[\w\s]", "", first.text.removesuffix(first.message))
    times = [row.time for row in lines[1:] if row.time is not None]
    return _Log(
        release,
        {form: first.text} if first.prefixed else {},
        command_line(Cursor(lines)),
        times[0] if times else None,
        max([first.time or 0, *times]),
    )
