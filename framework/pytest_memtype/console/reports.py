"""The reports in a kernel's console: panics, oopses, warnings, lockups.

A report is found by its structure and not by words: a first line in one of the kernel's own formats
(:mod:`pytest_memtype.console.headers`), then registers or a stack trace. All lines up to its end belong to
it, so that one event gives one report: what led to an oops, its first line, the oops, and a panic that only
carries out ``oops=panic``, ``panic_on_warn`` and their like. A panic of any other cause is a report of its
own.

Without CONFIG_PRINTK_CALLER, which Debian leaves off, nothing tells the lines of two CPUs apart that report
at the same time: there are as many reports as there were first lines, and each has the lines of all. Text of
user space between the lines of a report is left out if the kernel's own lines carry a time.

Most kinds are tested with consoles of real guests. Debian has no kernel with KASAN, and QEMU's TCG no NMI
watchdog, so their reports are only known from the kernel's sources.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from pytest_memtype.console.headers import (
    BOOT,
    CONSEQUENCE,
    DIE,
    END_PANIC,
    END_TRACE,
    FOLLOWING,
    FRAME,
    HEADERS,
    HELPERS,
    OPENING,
    REST,
    RIP,
    RULE,
    STRUCTURE,
    Header,
    ReportKind,
)
from pytest_memtype.console.line import ConsoleLine, read_line

__all__ = ["ConsoleReport", "ReportKind", "find_reports"]

#: A longer report is cut here. The longest of the corpus has 120 lines; an RCU stall has 50 a CPU.
MOST_LINES: Final = 1000

#: The most lines between a first line and its registers or stack trace: without those it is no report. SLUB
#: prints an object of 4 KiB on 256 lines before its stack trace (mm/slub.c, print_trailer()).
MOST_LINES_OF_WORDS: Final = 300

#: Lines between "cut here" and the first line: the text of a WARN.
_MOST_OPENING: Final = 16

#: Characters of the longest message that may be a first line: printk cuts longer ones (Linux 6.12,
#: kernel/printk/internal.h, PRINTK_MESSAGE_MAX; 1 KiB before 6.3), and patterns take the longer for them.
_LONGEST: Final = 2048

#: Reports that are open at a time. More first lines than CPUs that may report at once are text of somebody
#: who repeats them, and each line that follows would be added to all.
_MOST_OPEN: Final = 16

_RULED: Final = frozenset({ReportKind.KASAN, ReportKind.KFENCE})


_APPENDED: Final = re.compile(r"(?<=\w)\.(?:isra|part|cold|constprop)[.\w]*")
_ADDRESS: Final = re.compile(r"(?<![\w.])([\w.]++)\+0x[0-9a-f]+/0x[0-9a-f]+(?: \[[^\]]+\])?")


@dataclass(frozen=True)
class ConsoleReport:
    """An event that the kernel reported.

    :param kind: The kind of event.
    :param title: One line: what happened, and the function and place if the report names them. It has no
        times and addresses, so that the same event has the same title in every run of a kernel.
    :param lines: The lines of the report, sanitized.
    :param panicked: Whether the kernel ended with it.
    """

    kind: ReportKind
    title: str
    lines: tuple[str, ...]
    panicked: bool = False


def find_reports(console: str | Iterable[str]) -> tuple[ConsoleReport, ...]:
    """The reports in a console, by their first lines.

    :param console: The console's text, or its lines, sanitized. They are taken to be whole.
    """
    lines = console.splitlines() if isinstance(console, str) else console
    reader = _Reader()
    found = [report for line in lines for report in reader.read(line.rstrip("\r\n"))]
    found += reader.finish()
    return tuple(report for _, report in sorted(found, key=lambda pair: pair[0]))


#: A report, and the number of its first line.
_Numbered = tuple[int, ConsoleReport]


class _Reader:
    """A reader of lines, which gives each line to its stream."""

    def __init__(self) -> None:
        self._streams: dict[tuple[bool, str | None], _Stream] = {}
        self._number = 0

    def read(self, text: str) -> Iterator[_Numbered]:
        self._number += 1
        line = read_line(text)
        if BOOT.fullmatch(line.message):
            yield from self.finish()
        stream = self._streams.setdefault(line.stream, _Stream())
        yield from stream.read(self._number, line)
        # With callers in the prefix, every task that ever printed would leave a stream.
        if stream.idle:
            del self._streams[line.stream]

    def finish(self) -> list[_Numbered]:
        found = [each for stream in self._streams.values() for each in stream.finish()]
        self._streams.clear()
        return found


class _Open:
    """A report that hasn't ended yet."""

    def __init__(
        self, number: int, header: Header, match: re.Match[str], lines: Iterable[ConsoleLine]
    ) -> None:
        self.number = number
        self.header = header
        self.groups = match.groupdict()
        self.lines = list(lines)
        self.structured = False
        self.traced = False
        self.died = False
        self.ended = False
        self.panicked = False

    def add(self, line: ConsoleLine) -> None:
        self.lines.append(line)
        self.structured = self.structured or STRUCTURE.fullmatch(line.message) is not None
        self.traced = self.traced or line.message == "Call Trace:"

    def too_long(self) -> bool:
        return len(self.lines) >= (MOST_LINES if self.structured else MOST_LINES_OF_WORDS)

    def at_rest(self) -> bool:
        """Whether the report ends with the first line that can't be part of it."""
        return not self.panicked and (self.ended or (self.header.traced and self.traced))

    def was_words(self, next_header: Header) -> bool:
        """Whether the report's first line stands alone before another. Two of a kind may be from two CPUs."""
        return not self.structured and next_header.kind is not self.header.kind

    def awaits_end_trace(self) -> bool:
        return not (self.header.traced or self.ended or self.panicked)

    def close(self) -> Iterator[_Numbered]:
        if not self.structured:
            return
        messages = [line.message for line in self.lines]
        names = {
            "site": _site(messages) or "an unknown function",
            "function": _function(messages, running=self.header.running) or "an unknown function",
            **{name: _plain(text) for name, text in self.groups.items()},
        }
        lines = tuple(line.text for line in self.lines)
        title = self.header.title.format_map(names)
        yield self.number, ConsoleReport(self.header.kind, title, lines, panicked=self.panicked)


class _Stream:
    """The lines that may belong to the same report."""

    def __init__(self) -> None:
        self._opening: list[ConsoleLine] = []
        self._open: list[_Open] = []

    @property
    def idle(self) -> bool:
        return not (self._open or self._opening)

    def read(self, number: int, line: ConsoleLine) -> Iterator[_Numbered]:
        found = _header_of(line.message)
        if found is None:
            yield from self._continue(line)
        else:
            yield from self._begin(number, line, *found)
        yield from self._end(report for report in self._open if report.too_long())

    def finish(self) -> Iterator[_Numbered]:
        yield from self._end(self._open)

    def _begin(
        self, number: int, line: ConsoleLine, header: Header, match: re.Match[str]
    ) -> Iterator[_Numbered]:
        latest = self._open[-1] if self._open else None
        if latest is not None and self._belongs(latest, header, match):
            latest.panicked = latest.panicked or header.kind is ReportKind.PANIC
            latest.died = latest.died or DIE.fullmatch(line.message) is not None
            latest.add(line)
            return
        if header.kind is ReportKind.PANIC:
            yield from self._end(self._open)
        else:
            yield from self._end(each for each in self._open if each.at_rest() or each.was_words(header))
        report = _Open(number, header, match, (*self._opening, line))
        report.died = DIE.fullmatch(line.message) is not None
        report.panicked = header.kind is ReportKind.PANIC
        self._opening.clear()
        if len(self._open) == _MOST_OPEN:
            yield from self._end(self._open[:1])
        self._open.append(report)

    def _belongs(self, report: _Open, header: Header, match: re.Match[str]) -> bool:
        """Whether a first line is one more line of an open report."""
        if report.panicked:
            return True
        if header.kind is ReportKind.PANIC:
            return report.structured and CONSEQUENCE.fullmatch(match["what"]) is not None
        return not report.structured and header.kind in FOLLOWING and header.kind is not report.header.kind

    def _continue(self, line: ConsoleLine) -> Iterator[_Numbered]:
        message = line.message
        opens = OPENING.fullmatch(message) is not None
        if self.idle and not opens:
            return
        if END_TRACE.fullmatch(message):
            yield from self._end_trace(line)
            return
        if not REST.fullmatch(message):
            yield from self._end(report for report in self._open if report.at_rest())
        for report in self._open:
            report.add(line)
        if RULE.fullmatch(message):
            ruled = [each for each in self._open if each.header.kind in _RULED and each.structured]
            if ruled:
                yield from self._end(each for each in ruled if not each.panicked)
                return
        if END_PANIC.fullmatch(message):
            yield from self._end(report for report in self._open if report.panicked)
        if opens:
            self._opening = [line]
        elif self._opening:
            self._opening.append(line)
            if len(self._opening) > _MOST_OPENING:
                self._opening.clear()

    def _end_trace(self, line: ConsoleLine) -> Iterator[_Numbered]:
        report = next((each for each in self._open if each.awaits_end_trace()), None)
        for each in self._open if report is None else [report]:
            each.add(line)
        if report is not None and report.died:
            # The registers once more, and perhaps a panic, are still to come.
            report.ended = True
        elif report is not None:
            yield from self._end([report])

    def _end(self, reports: Iterable[_Open]) -> Iterator[_Numbered]:
        for report in list(reports):
            self._open.remove(report)
            yield from report.close()


def _header_of(message: str) -> tuple[Header, re.Match[str]] | None:
    if len(message) > _LONGEST:
        return None
    for header in HEADERS:
        match = header.pattern.fullmatch(message)
        if match is not None:
            return header, match
    return None


def _site(messages: Iterable[str]) -> str | None:
    """The function that the processor was in, by the first register dump of kernel code."""
    for message in messages:
        match = RIP.fullmatch(message)
        if match is not None:
            return _plain(match["function"])
    return None


def _function(messages: list[str], *, running: bool) -> str | None:
    """The innermost function of a stack that isn't a helper; a guess of the unwinder if there is no other."""
    if running and (site := _site(messages)) is not None:
        return site
    doubted = None
    for message in messages:
        match = RIP.fullmatch(message) or FRAME.fullmatch(message)
        if match is None or HELPERS.fullmatch(match["function"].partition(".")[0]):
            continue
        if not match.groupdict().get("guess"):
            return _plain(match["function"])
        doubted = doubted or _plain(match["function"])
    return doubted


def _plain(name: str) -> str:
    """The text with functions as the source names them: ``f`` for ``f.isra.0+0x1/0x2 [module]``."""
    return _ADDRESS.sub(r"\1", _APPENDED.sub("", name))
