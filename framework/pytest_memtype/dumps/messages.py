"""Linux' complaints about memory types in its log. A message that is cut keeps what is whole of it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Final

from pytest_memtype.dumps.facts import Complaint, Kind, Line, Span
from pytest_memtype.dumps.fwts import FWTS_FORMS
from pytest_memtype.dumps.memory_messages import MEMORY_FORMS, PAIR
from pytest_memtype.dumps.message_form import HEX, Form
from pytest_memtype.dumps.mtrr_messages import MTRR_FORMS
from pytest_memtype.dumps.not_shown import is_source, of_changelogs
from pytest_memtype.dumps.text import Cursor, Row, may_say_more, says_more
from pytest_memtype.dumps.words import TOLD, type_of_number, type_of_word
from pytest_memtype.x86.memtype import MemType

_MOST_LINES: Final = 1000
"""So many lines that say the same are told by their numbers."""


#: "x86/PAT: " since 4.2 (9dac62909451); a report may quote it in the middle of a line.
_PAT_PREFIX: Final = re.compile(r"^.*?\b(?P<label>x86/(?:mm/)?pat: )", re.I)

_FORMS: Final = (*MEMORY_FORMS, *MTRR_FORMS, *FWTS_FORMS)

_TRIGGERS: Final = re.compile(
    "|".join(sorted({re.escape(each.trigger) for each in _FORMS}, key=len, reverse=True))
)

#: How the beginning of a trigger looks at the end of a line that was wrapped there.
_WRAPPED: Final = re.compile(
    r"\b(?:conflicting|memory types|map|map pfn|freeing|freeing invalid|ioremap|resource|resource sanity"
    r"|resource map"
    r"|memremap|memremap attempted|memtype_reserve|reserve_memtype"
    r"|reserve_ram_pages_type|/dev/mem|/dev/mem expected|info:|cpu|failed|found"
    r"|mtrr:|x86/pat:.*|your cpus had|mtrrs disabled,)\s*$",
    re.I,
)

#: The beginning of a line of the log that was wrapped behind its actor.
_ACTOR: Final = re.compile(r"^[^\[\]\":]{1,15}:\d{1,10}\s*$")

_CALLER: Final = re.compile(
    r"\bcaller (?P<function>[\w.]{1,120})\+0x[0-9a-f]+/0x[0-9a-f]+(?: \[[\w-]+\])? mapping multiple"
)


#: What a mail is about isn't what its sender's kernel said; nor is a question.
_SUBJECT: Final = re.compile(r"^\s*Subject: ", re.I)
_QUESTION: Final = re.compile(r"\s?\?")
#: "Fix the spew of", in front of a message that a changelog names.
_MENDED: Final = re.compile(
    r"\b(?:fix(?:es|ed)?|silenc(?:es?|ed)|prevents?|avoids?|gets? rid of|resolves?|suppress(?:es|ed)?"
    r"|quiet(?:en)?(?:s|ed)?|drop(?:s|ped)?|remov(?:es?|ed)|eliminat(?:es?|ed)|cur(?:es?|ed)"
    r"|no (?:longer|more)|stop(?:s|ped)?|workaround for|work around)\b[^.:;]{0,60}$",
    re.I,
)
_WISH: Final = re.compile(
    r"\b(?:how|what|can (?:i|we|you|anyone)|want\w*|please|tr(?:y|ied|ying)|could\w*|can't|doesn't"
    r"|didn't|not)\b[^.;]{0,40}$",
    re.I,
)
#: Spaces within a line: pages double them where they broke a long one.
_SPACES: Final = re.compile(r"(?<=\S) {2,}(?=\S)")


def complaints(cursor: Cursor) -> tuple[list[Complaint], list[Line]]:
    """The messages of a text, in its order; and those that are cut.

    Lines of one wording that differ in no fact are one complaint.
    """
    found: list[Complaint] = []
    cut: list[Line] = []
    mended = of_changelogs(cursor.rows)
    index = 0
    while index < len(cursor.rows):
        read = None if cursor.rows[index].number in mended else _read(cursor, index)
        if read is None:
            if _is_rest(cursor, index):
                row = cursor.rows[index]
                cut.append(Line(row.number, row.text[:400]))
                cursor.use(index)
            index += 1
            continue
        complaint, count, whole = read
        if not whole:
            row = cursor.rows[index]
            cut.append(Line(row.number, row.text[:400]))
        _add(found, complaint)
        index += count
    ahead: list[Complaint | None] = [None, *found]
    return [_with_range(each, last) for last, each in zip(ahead, found, strict=False)], cut


#: The end of "conflicting memory types", where another CPU's line has overwritten its beginning.
_REST: Final = re.compile(rf"^\s*-?{HEX} {PAIR}\s*$", re.I)


def _is_rest(cursor: Cursor, index: int) -> bool:
    return "<->" in cursor.rows[index].message and _REST.match(cursor.rows[index].message) is not None


def _read(cursor: Cursor, index: int) -> tuple[Complaint, int, bool] | None:
    """The message that begins in a line, the number of its lines, and whether it is all there."""
    row = cursor.rows[index]
    message = _with_single_spaces(row.message)
    lowered = message.lower()
    actor = row.prefixed and _ACTOR.match(lowered)
    if (
        _SUBJECT.match(row.text)
        or is_source(row)
        or not (actor or _TRIGGERS.search(lowered) or _WRAPPED.search(lowered))
    ):
        return None
    partial: tuple[Form, re.Match[str]] | None = None
    short: tuple[Form, re.Match[str], int] | None = None
    for piece, count in cursor.pieces(index):
        text = _with_single_spaces(piece)
        label = _PAT_PREFIX.match(text)
        body = text[label.end() if label else 0 :].strip()
        stripped = len(text.rstrip()) - len(body)
        low = body.lower()
        for each in _FORMS:
            match = each.pattern.search(body) if each.trigger in low else None
            if match is None:
                continue
            # What begins in a later line is that line's.
            start = match.start() + stripped if label is None or match.start() else label.start("label")
            if start >= len(message.rstrip()):
                continue
            if each.whole and match[each.whole] is None:
                named = not row.prefixed and _is_mended(body, match.start())
                if not named and (row.prefixed or any(match.groups())):
                    partial = partial or (each, match)
            elif not row.prefixed and (_QUESTION.match(body, match.end()) or _is_mended(body, match.start())):
                return None
            elif short is not None and (each is not short[0] or not says_more(match, short[1])):
                pass
            elif may_say_more(match):
                short = each, match, count
            elif not _goes_on(cursor, index + count, body, match):
                return _complaint(each, match, row, cursor.use(index, count)), count, True
            break
    if short is not None:
        form, match, count = short
        return _complaint(form, match, row, cursor.use(index, count)), count, True
    if partial is None:
        return None
    return _complaint(*partial, row, cursor.use(index), whole=False), 1, False


def _is_mended(text: str, at: int) -> bool:
    """Whether a message is named as one that is no more, and not as one that somebody wants to be rid of.

    :param text: The line.
    :param at: Where the message begins in it.
    """
    mended = _MENDED.search(text, 0, at)
    return mended is not None and _WISH.search(text, 0, mended.start()) is None


def named(cursor: Cursor) -> Iterator[Line]:
    """The lines that name a message, and that nobody has read as a report.

    Somebody says there that it is no more, asks for it, lists what a kernel may say, or has a program for it.

    :param cursor: The text, when all readers are done with it.
    """
    for row in cursor.rows:
        text = _with_single_spaces(row.message)
        low = text.lower()
        if row.number in cursor.used or not _TRIGGERS.search(low):
            continue
        matches = (each.pattern.search(text) for each in _FORMS if each.trigger in low)
        # "Conflicting memory types" alone is anybody's words, for instance those of manuals of CPUs.
        if any(match and (any(match.groups()) or TOLD.search(match[0])) for match in matches):
            yield Line(row.number, row.text[:400])


def _with_single_spaces(text: str) -> str:
    return _SPACES.sub(" ", text) if "  " in text else text


def _goes_on(cursor: Cursor, following: int, body: str, match: re.Match[str]) -> bool:
    """Whether the last word of a message was wrapped: ``uncached`` in front of ``-minus``."""
    if match.end() != len(body) or not body.endswith("uncached") or following >= len(cursor.rows):
        return False
    row = cursor.rows[following]
    return not row.prefixed and row.message.strip().startswith("-minus")


def _complaint(
    form: Form, match: re.Match[str], row: Row, numbers: tuple[int, ...], *, whole: bool = True
) -> Complaint:
    groups = match.groupdict()
    if not whole:
        # What the line ends with may be the beginning of something longer.
        groups = {name: each for name, each in groups.items() if match.end(name) < len(match.string)}

    def said(name: str) -> MemType | None:
        if groups.get(name) is not None:
            return type_of_word(groups[name])
        return type_of_number(groups.get(f"{name}_number"))

    granted = said("granted")
    held = [said("first"), said("second"), said("held"), granted]
    if form.kind is Kind.RESERVE_FAILED:
        granted = said("track")
    elif form.kind is Kind.RESERVED and (granted is said("asked") or said("asked") in (None, MemType.WB)):
        held = []
    elif form.kind is Kind.RAM_RESERVE_FAILED:
        held.append(said("track"))
    asked = said("asked")
    if form.kind is Kind.DEVMEM_TYPE and asked in (None, MemType.WB):
        held = []
    if form.kind is Kind.MTRR_WC_FAILED and "allocation failed" not in match[0].lower():
        asked = MemType.WC
    process = groups.get("process") or groups.get("process2") or groups.get("process3")
    pid = groups.get("pid") or groups.get("pid2")
    errno = groups.get("errno")
    address = groups.get("address")
    span = _span(groups, name=groups.get("name") or "")
    if span is not None and not _is_range(form.kind, span):
        span = None
    return Complaint(
        form.kind,
        row.number,
        match[0].strip()[:400],
        time=row.time,
        span=span,
        asked=asked,
        held=tuple(each for each in held if each is not None),
        granted=granted,
        process=process.strip() if process else None,
        pid=int(pid) if pid else None,
        errno=abs(int(errno)) if errno else None,
        other=_span(groups, "_other", name=(groups.get("other") or "").strip()),
        address=int(address, 16) if address else None,
        labelled=_is_labelled(row, match[0]),
        of_xen="(XEN)" in row.text[: len(row.text) - len(row.message)],
        lines=numbers,
    )


def _is_labelled(row: Row, message: str) -> bool | None:
    """Whether a message has pat.c's name in front, where the line is all there."""
    if _PAT_PREFIX.match(row.message):
        return True
    begins = row.message.lstrip().startswith(message.split()[0]) if row.prefixed else False
    return False if begins else None


def _span(groups: dict[str, str | None], which: str = "", name: str = "") -> Span | None:
    """The range of a message, with its last byte.

    Numbers that are cut have no delimiter behind them, and the patterns don't take them.
    """
    start, end, last = groups.get(f"start{which}"), groups.get(f"end{which}"), groups.get(f"last{which}")
    size = groups.get(f"size{which}")
    if which == "" and groups.get("start_old"):
        start, end = groups["start_old"], groups.get("end_old")
    if which == "" and groups.get("pfn"):
        first = int(groups["pfn"] or "0", 16) << 12
        return Span(first, first + 0xFFF, name)
    if start is None:
        return None
    first = int(start, 16)
    if size is not None:
        final = first + int(size, 16) - 1
    elif last is not None:
        final = int(last, 16)
    elif end is not None:
        # What ends with a last byte ends with an odd number: there are only whole pages, or words at least.
        final = int(end, 16)
        final -= final % 2 == 0
    else:
        return None
    return Span(first, final, name) if 0 <= first <= final < 1 << 64 else None


def _is_range(kind: Kind, span: Span) -> bool:
    """Whether the numbers of a message are a range of addresses."""
    if kind is Kind.MTRR_WC_FAILED:
        # arch_phys_wc_add() prints them by %p, which is a hash since 4.15 (ad67b74d2469). Of no version is
        # a range of an MTRR anything but whole pages.
        return not (span.start | (span.end + 1)) & 0xFFF
    # iomem_map_sanity_check() prints start + size - 1, which is all ones for a size of 0 at address 0.
    return kind is not Kind.SANITY or (span.start, span.end) != (0, (1 << 64) - 1)


def _add(found: list[Complaint], complaint: Complaint) -> None:
    for index in range(len(found) - 1, max(-1, len(found) - 8), -1):
        each = found[index]
        if replace(each, line=0, time=None, repeated=1, lines=(), pid=None, labelled=None) == replace(
            complaint, line=0, time=None, repeated=1, lines=(), pid=None, labelled=None
        ) and (each.pid == complaint.pid or each.process == complaint.process):
            # All numbers of a line that fills megabytes would be copied again and again.
            lines = each.lines if each.repeated >= _MOST_LINES else each.lines + complaint.lines
            found[index] = replace(each, repeated=each.repeated + 1, lines=lines)
            return
    found.append(complaint)


def _with_range(complaint: Complaint, last: Complaint | None) -> Complaint:
    """``ioremap memtype_reserve failed`` with the range of the complaint that came right before it."""
    if complaint.kind is not Kind.IOREMAP_FAILED or complaint.span is not None:
        return complaint
    kinds = (Kind.RESERVE_FAILED, Kind.RAM_RESERVE_FAILED, Kind.CONFLICTING_TYPES)
    if last is not None and last.kind in kinds:
        return replace(complaint, span=last.span)
    return complaint


def callers(cursor: Cursor, found: list[Complaint]) -> list[Complaint]:
    """The complaints, with the function that the line below a failed sanity check names."""
    named: dict[int, str] = {}
    for index, row in enumerate(cursor.rows):
        if "caller " in row.message:
            hit = cursor.search(index, _CALLER)
            if hit is not None:
                cursor.use(index, hit[1])
                # "caller ... resource sanity check": what stands in front of one is another's.
                if "sanity check" not in row.message[hit[0].start() :]:
                    named[row.number] = hit[0]["function"]
    if not named:
        return found
    checks = {line for each in found if each.kind is Kind.SANITY for line in each.lines}
    return [_with_caller(each, named, checks) if each.kind is Kind.SANITY else each for each in found]


def _with_caller(check: Complaint, named: Mapping[int, str], checks: Collection[int]) -> Complaint:
    """A failed sanity check with its caller, if the lines of its repetitions, or those below, name one alone.

    :param check: The complaint.
    :param named: The functions that lines name, by the line.
    :param checks: The lines of all failed sanity checks: what stands below the next one is that one's.
    """
    below = set()
    for line in check.lines:
        for number in range(line, line + 4):
            if number in checks and number != line:
                break
            if number in named:
                below.add(named[number])
                break
    return replace(check, caller=below.pop()) if len(below) == 1 else check
