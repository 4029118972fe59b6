"""The lines of a text as people paste it: without the marks of mail, printk, syslog and the journal.

What was wrapped stays in pieces here; :class:`Cursor` puts pieces together where a message is looked for.
"""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from pytest_memtype.dumps.markup import without_markup

MOST_BYTES: Final = 8 << 20
"""The most bytes of a text that are read."""

MOST_COLUMNS: Final = 2000
"""A longer line is read up to here. A kernel's own lines have at most 1024 characters (LOG_LINE_MAX)."""

MOST_LINES: Final = 250_000
"""The most lines of a text that are read, where empty ones that follow another don't count: each takes some
hundred bytes of memory, and lines of a log have 60 characters and more."""

# A colour or a cursor's movement, as "dmesg --color=always" and serial consoles have them.
_ESCAPE: Final = re.compile(
    r"\x1b(?:\[[0-9;?]{0,40}[ -/]{0,2}[@-~]|\][^\x07\x1b]{0,200}(?:\x07|\x1b\\)|[@-Z\\-_])"
)
_UNPRINTABLE: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff\u200b-\u200f\u2028-\u202e\u2066-\u2069]"
)
_SPACES: Final = re.compile(r"[\u00a0\u2000-\u200a\u202f\u3000]")
_DASHES: Final = re.compile(r"[\u2010-\u2015\u2212]")

_QUOTED_PRINTABLE: Final = re.compile(rb"^content-transfer-encoding:\s*quoted-printable", re.I | re.M)
_SOFT_BREAK: Final = re.compile(rb"[^=\s]=\r?\n")
_ESCAPED: Final = re.compile(rb"=(?:3D|20\r?\n|A0|C2=A0|E2=80=[0-9A-F]{2}|09)")
_ENCODED: Final = re.compile(r"=([0-9A-F]{2})")

_TAGS: Final = re.compile(
    r"</?(?:a|b|blockquote|body|br|code|div|font|head|html|i|li|p|pre|span|table|tbody|td|tr|tt|u|ul)"
    r"(?:\s[^<>]{0,300})?/?>",
    re.I,
)
_BREAK: Final = re.compile(r"\s*<br\s{0,3}/?>\s*", re.I)
_QUOTE: Final = re.compile(r"^(?:\s{0,8}[>|]){1,12} ?")

# What stands before a line of the kernel's. kernel/printk/printk.c, print_prefix(), msg_print_ext_header();
# util-linux, dmesg.c; systemd, logs-show.c; rsyslog's two templates.
_MONTH: Final = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_CLOCK: Final = r"\d{1,2}:\d\d:\d\d(?:[.,]\d{1,9})?"
_PREFIXES: Final = tuple(
    re.compile(pattern)
    for pattern in (
        # dmesg --decode: "kern  :info  : "
        r"(?:kern|user|daemon|syslog|auth|local\d) *: *(?:emerg|alert|crit|err|warn|notice|info|debug) *: *",
        # /dev/kmsg: "6,339,5140900,-;"
        r"\d{1,4},\d{1,10},(?P<micro>\d{1,16}),[-c+][^;]{0,80};",
        # syslog and the journal: "Jan  9 11:02:41 box kernel: ", with an optional year,
        # in any language's words, "juin 12".
        rf"[^\W\d_]{{3,9}}\.? +\d{{1,2}} (?:\d{{4}} )?{_CLOCK} (?:(?P<host>\S{{1,100}}) )?"
        r"(?:kernel|unknown|klogd|dmesg)(?:\[\d+\])?: ?",
        rf"\d{{4}}-\d\d-\d\d[T ]{_CLOCK}(?:Z|[+-]\d\d:?\d\d)? (?:(?P<host>\S{{1,100}}) )?(?:kernel|klogd)"
        rf"(?:\[\d+\])?: ?",
        # a bare clock, as serial loggers put it
        rf"\[?\d{{4}}-\d\d-\d\d[T ]{_CLOCK}(?:Z|[+-]\d\d:?\d\d)?\]? +",
        # dmesg -T and -e
        rf"\[(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) {_MONTH} +\d{{1,2}} {_CLOCK} \d{{4}}\] ?",
        rf"\[{_MONTH} *\d{{1,2}} *\d\d:\d\d\] ?|\[ *[+<] *\d{{1,10}}\.\d{{6}}>?\] ?",
        # Xen's console, before its time
        r"\(XEN\) ?",
        # printk's level, time and caller
        r"<\d{1,3}>",
        r"\[ *(?P<seconds>\d{1,10}\.\d{3,9})(?:@\d+)?\] ?",
        r"\[ *[TC]\d{1,8}\] ?",
        # journalctl -o short-monotonic, behind its time
        r"(?:(?P<host>[\w.-]{1,64}) )?kernel: ",
    )
)
_MOST_PREFIXES: Final = 6


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the text.

    :param number: From 1, in the text as it was given.
    :param text: What is left of it without quoting.
    :param message: What is left without prefixes, too. Its indentation stays.
    :param time: Seconds since the boot, if its prefix says them.
    :param prefixed: Whether it has a prefix, so that it begins a message.
    :param host: The name of the host in its prefix, as syslog and the journal have it.
    :param depth: How many marks of quoting it had in front, "> > ".
    """

    number: int
    text: str
    message: str
    time: float | None
    prefixed: bool
    host: str | None = None
    depth: int = 0


def decoded(data: bytes) -> str:
    """The text in some bytes: UTF-8, UTF-16 with its mark, or Latin-1, without what a terminal would obey."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = data.decode("utf-16", errors="replace")
    else:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            text = data.decode("latin-1")
    return _plain(text)


def _plain(text: str) -> str:
    # A log of a machine that crashed often has a block of zeros in it.
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\x0c", "\n")
    text = _UNPRINTABLE.sub("", _ESCAPE.sub("", text))
    return _DASHES.sub("-", _SPACES.sub(" ", text))


def rows(data: bytes) -> list[Row]:
    """The lines of a text.

    Of empty lines one behind the other there is only the first.

    :param data: The text, as it was read from a file; what is behind :data:`MOST_BYTES` or
        :data:`MOST_LINES` is left out.
    """
    data = data[:MOST_BYTES]
    encoded = bool(_QUOTED_PRINTABLE.search(data) or (_SOFT_BREAK.search(data) and _ESCAPED.search(data)))
    text = decoded(data)
    tagged = re.search(r"<(?:br|pre|p|div|html|span|blockquote)\b[^<>]{0,300}>", text, re.I) is not None
    plain = without_markup(text)
    entities = "&lt;" in text or "&gt;" in text or "&amp;" in text or "&nbsp;" in text or "&#" in text
    found: list[Row] = []
    broken = False
    for number, line in _joined(text, encoded):
        if not line and found and not found[-1].text:
            # As below; there may be millions of them.
            continue
        line = line[:MOST_COLUMNS]
        if tagged and _BREAK.fullmatch(_QUOTE.sub("", line)) and not broken:
            # It ends the line above, as archives of hypermail have it; a second one is an empty line.
            broken = True
            continue
        broken = False
        if tagged:
            line = re.sub(r"<br\s{0,3}/?>", "\n", line, flags=re.I)
            line = _TAGS.sub("", line)
        if entities:
            # A number may stand for what was taken out of the text: "&#13;", "&#8203;", the dash "&#8209;".
            line = _plain(html.unescape(line))
        for piece in plain(line).split("\n"):
            marks = _QUOTE.match(piece)
            stripped = (piece if marks is None else piece[marks.end() :]).rstrip()
            if not stripped and found and not found[-1].text:
                continue
            if len(found) >= MOST_LINES:
                return found
            found.append(_row(number, stripped, 0 if marks is None else marks[0].count(">")))
    return found


def _joined(text: str, encoded: bool) -> Iterator[tuple[int, str]]:
    """Lines with their numbers; those of quoted-printable put together again."""
    held, first = "", 0
    for number, line in enumerate(_split(text), start=1):
        if not encoded:
            yield number, line
            continue
        stripped = line.rstrip()
        if stripped.endswith("=") and len(held) < MOST_COLUMNS:
            held, first = held + stripped[:-1], first or number
            continue
        whole = held + line
        yield first or number, _plain(_ENCODED.sub(lambda found: chr(int(found[1], 16)), whole))
        held, first = "", 0
    if held:
        yield first, held


def _split(text: str) -> Iterator[str]:
    """The lines of a text, one after the other: a list of all would be as large as the text, and more."""
    start = 0
    while (end := text.find("\n", start)) >= 0:
        yield text[start:end]
        start = end + 1
    yield text[start:]


def _row(number: int, text: str, depth: int) -> Row:
    rest, time, prefixed = text, None, False
    host: str | None = None
    for _ in range(_MOST_PREFIXES):
        # Prefixes are looked for behind spaces, which people indent with; behind the last they belong to it.
        start = len(rest) - len(rest.lstrip()) if not prefixed else 0
        for pattern in _PREFIXES:
            match = pattern.match(rest, start)
            if match is not None:
                break
        else:
            break
        groups = match.groupdict()
        if groups.get("seconds"):
            time = float(groups["seconds"])
        elif groups.get("micro"):
            time = int(groups["micro"]) / 1e6
        host = groups.get("host") or host
        rest, prefixed = rest[match.end() :], True
    return Row(number, text, rest, time, prefixed, host, depth)


def may_say_more(match: re.Match[str]) -> bool:
    """Whether a match ends with its text, and lacks a group that may stand in the line below."""
    return match.end() >= len(match.string.rstrip()) and None in match.groups()


def says_more(match: re.Match[str], than: re.Match[str]) -> bool:
    """Whether a match of a longer text has all groups of another's, and more."""
    pairs = list(zip(match.groups(), than.groups(), strict=False))
    kept = match.re is than.re and match.start() == than.start()
    return (
        kept
        and all(mine is not None or theirs is None for mine, theirs in pairs)
        and any(mine is not None and theirs is None for mine, theirs in pairs)
    )


class Cursor:
    """The lines of a text, and where a reader is.

    :ivar rows: All lines.
    :ivar used: Numbers of the lines that some reader has understood.
    """

    #: How many lines a message may have been wrapped into.
    MOST_PIECES: Final = 4
    #: How many characters such a message has.
    MOST_JOINED: Final = 700

    def __init__(self, lines: list[Row], used: set[int] | None = None) -> None:
        self.rows = lines
        self.used: set[int] = set() if used is None else used

    def part(self, start: int, end: int) -> Cursor:
        """Some of the lines; those that are used there are used here, too.

        :param start: Index of the first line in ``rows``.
        :param end: Index behind the last one.
        """
        return Cursor(self.rows[start:end], self.used)

    def split(self, numbers: Collection[int]) -> tuple[Cursor, Cursor]:
        """The text without some lines, and without all others; in their places are empty ones.

        :param numbers: The numbers of those lines.
        """
        empty = [Row(row.number, "", "", None, prefixed=False) for row in self.rows]
        pairs = list(zip(self.rows, empty, strict=True))
        mine = [blank if row.number in numbers else row for row, blank in pairs]
        others = [row if row.number in numbers else blank for row, blank in pairs]
        return Cursor(mine, self.used), Cursor(others, self.used)

    def pieces(self, index: int) -> Iterator[tuple[str, int]]:
        """The texts that a message beginning in a line may be: the line, then with those that may follow.

        :param index: Index of the line in ``rows``.
        :returns: Pairs of the text, and how many lines it is made of. A line was wrapped between words, or
            wherever a terminal ended; so there are two ways to put lines together.
        """
        yield self.rows[index].message, 1
        texts = [self.rows[index].message]
        for count in range(2, self.MOST_PIECES + 1):
            following = index + count - 1
            if following >= len(self.rows) or not self._continues(following):
                return
            piece = self.rows[following].message.strip()
            # No message is wrapped into more than that, and every line more doubles the ways to join them.
            if len(texts[0]) + len(piece) > self.MOST_JOINED:
                return
            # Quoted-printable without its header: "map=" in front of "ping due to".
            soft = [each.rstrip()[:-1] + piece for each in texts if each.endswith("=")]
            texts = [f"{each.rstrip()}{glue}{piece}" for each in texts for glue in (" ", "")] + soft
            for each in texts:
                yield each, count

    def search(self, index: int, *patterns: re.Pattern[str]) -> tuple[re.Match[str], int] | None:
        """The first match in what a message beginning in a line may be, and the number of lines of that.

        :param index: Index of the line in ``rows``.
        :param *patterns: Patterns, each of which is tried on a text before the next text is. A longer text
            counts only if it has more of the first one's groups.
        """
        found: tuple[re.Match[str], int] | None = None
        for text, count in self.pieces(index):
            match = next(filter(None, (pattern.search(text) for pattern in patterns)), None)
            if match is None or (found is not None and not says_more(match, found[0])):
                continue
            found = match, count
            if not may_say_more(match):
                break
        return found

    def _continues(self, index: int) -> bool:
        row = self.rows[index]
        return not row.prefixed and bool(row.text.strip())

    def use(self, index: int, count: int = 1) -> tuple[int, ...]:
        """Note that lines were understood; the numbers of those lines."""
        numbers = tuple(row.number for row in self.rows[index : index + count])
        self.used.update(numbers)
        return numbers
