"""Linux' complaints about memory types in its log, by version, from 2.6.27 to 7.3.

Each form was taken from the source that prints it, which its comment names. A message that is cut keeps what
is whole of it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Final

from pytest_memtype.dumps.facts import Complaint, Kind, Line, Span
from pytest_memtype.dumps.fwts import FWTS_FORMS
from pytest_memtype.dumps.message_form import HEX, NUMBER_ENDS, Form, form
from pytest_memtype.dumps.mtrr_messages import MTRR_FORMS
from pytest_memtype.dumps.text import Cursor, Row
from pytest_memtype.dumps.words import TYPE, type_of_number, type_of_word
from pytest_memtype.x86.memtype import MemType

_MOST_LINES: Final = 1000
"""So many lines that say the same are told by their numbers."""


#: What people put for an address or a number that they don't want to tell.
_HIDDEN: Final = r"(?:\.{3}|\u2026|<[\w -]{1,24}>|\[(?:redacted|removed|snip)\]|[x*]{3,16}(?:-[x*]{3,16})?)"


def _range(name: str = "", end: str = "end") -> str:
    """A range: ``[mem 0x...-0x...]`` since 3.5 (365811d6f9f4), ``0x...-0x...`` or bare digits before.

    :param name: What the names of its groups end with.
    :param end: ``last`` where the message has the last byte whatever the version.
    """
    first, last = rf"(?P<start{name}>{HEX})", rf"(?P<{end}{name}>{HEX}){NUMBER_ENDS}"
    return rf"(?:\[mem )?{first}\s?-\s?{last}(?P<bracket{name}>\])?"


def _told_or_hidden() -> str:
    """A range, or what people put in place of one."""
    return rf"(?:{_range()}|(?:\[mem )?{_HIDDEN}\]?)"


# current->comm may hold spaces and colons; the kernel cuts it at 15 characters.
_WHO: Final = (
    r"(?:^(?P<process>[^\[\]\"]{1,15}?):(?P<pid>\d{1,10}) "
    rf"|(?:^|[\s\"'`(])(?P<process2>[^\s\"'`(:]{{1,15}}?):(?:(?P<pid2>\d{{1,10}})|{_HIDDEN}) |)"
)

#: "x86/PAT: " since 4.2 (9dac62909451); a report may quote it in the middle of a line.
_PAT_PREFIX: Final = re.compile(r"^.*?\bx86/(?:mm/)?pat: ", re.I)


_PAIR: Final = rf"(?P<first>{TYPE})<\s?-\s?>(?P<second>{TYPE})"

_FORMS: Final = (
    # arch/x86/mm/pat/memtype_interval.c, memtype_check_conflict(); before, pat_rbtree.c, and pat.c.
    form(
        Kind.CONFLICTING_TYPES,
        "conflicting memory types",
        rf"{_WHO}conflicting memory types(?: {_told_or_hidden()}(?:\s+{_PAIR})?)?",
        "second",
    ),
    # arch/x86/mm/pat/memtype.c, memtype_reserve(), which was reserve_memtype() before 5.6.
    form(
        Kind.RESERVE_FAILED,
        "memtype",
        r"\b(?:memtype_reserve|reserve_memtype) failed:?(?<!ioremap memtype_reserve failed)"
        r"(?<!ioremap reserve_memtype failed)(?! -?\d{1,3}(?:$|[^-\dx]))"
        # Without "track" where the range is none (EINVAL).
        rf"(?: {_told_or_hidden()}(?:,? track (?P<track>{TYPE}|-))?(?:, req (?P<asked>{TYPE}))?)?",
        "asked",
    ),
    form(
        Kind.RESERVED,
        "memtype",
        rf"\b(?:memtype_reserve|reserve_memtype) added(?: {_range()}(?:, track (?:{TYPE})"
        rf"(?:, req (?P<asked>{TYPE}|-)(?:, ret (?P<granted>{TYPE}|-))?)?)?)?",
        "granted",
    ),
    # memtype_free(), where something was freed; in 2.6.32 behind "freeing invalid memtype", too.
    form(
        Kind.FREED,
        "memtype",
        rf"\b(?:memtype_free|free_memtype) request {_range()}",
    ),
    form(
        Kind.RAM_RESERVE_FAILED,
        "reserve_ram_pages_type failed",
        rf"\breserve_ram_pages_type failed(?: {_range()}(?:, track 0x(?P<track_number>[0-9a-f]{{1,4}})"
        r"(?:, req 0x(?P<asked_number>[0-9a-f]{1,4}))?)?)?",
        "asked_number",
    ),
    form(
        Kind.FREEING_INVALID,
        "freeing invalid memtype",
        rf"{_WHO}freeing invalid memtype(?: {_range()})?",
        "end",
    ),
    form(
        Kind.USER_REFUSED,
        "map pfn",
        rf"{_WHO}map pfn expected mapping(?: type (?P<asked>{TYPE})(?: for {_range()}(?:, got "
        rf"(?P<held>{TYPE}))?)?)?",
        "held",
    ),
    # arch/x86/mm/pat.c, map_devmem(), until 2.6.29.
    form(
        Kind.DEVMEM_TYPE,
        "expected mapping",
        rf"{_WHO}/dev/mem expected mapping(?: type (?P<asked>{TYPE})(?: for {_range()}(?:, got "
        rf"(?P<held>{TYPE}))?)?)?",
        "held",
    ),
    form(
        Kind.USER_RAM,
        "map pfn",
        rf"{_WHO}map pfn RAM range(?: req (?P<asked>{TYPE})(?: for {_range()}(?:, got "
        rf"(?P<granted>{TYPE}))?)?)?",
        "granted",
    ),
    # arch/x86/mm/ioremap.c, __ioremap_caller().
    form(
        Kind.IOREMAP_REFUSED,
        "ioremap error",
        rf"\bioremap error(?: for {_range()}(?:,? requested 0x(?P<asked_number>[0-9a-f]{{1,4}})"
        r"(?:,? got 0x(?P<held_number>[0-9a-f]{1,4}))?)?)?",
        "held_number",
    ),
    form(
        Kind.IOREMAP_FAILED,
        "ioremap",
        r"\bioremap (?:memtype_reserve|reserve_memtype) failed(?: (?P<errno>-?\d{1,4}))?",
        "errno",
    ),
    form(
        Kind.IOREMAP_ON_RAM,
        "ioremap on ram",
        rf"\bioremap on RAM at (?P<start>{HEX})(?: - (?P<last>{HEX}){NUMBER_ENDS})?",
        "last",
    ),
    form(Kind.IOREMAP_ON_RAM, "ioremap on ram", rf"\bioremap on RAM pfn (?P<pfn>{HEX}){NUMBER_ENDS}"),
    form(
        Kind.IOREMAP_BEYOND,
        "invalid physical address",
        rf"\bioremap: invalid physical address (?P<start>{HEX}){NUMBER_ENDS}",
    ),
    # kernel/iomem.c, memremap().
    form(
        Kind.MEMREMAP_ON_RAM,
        "memremap attempted on ram",
        rf"\bmemremap attempted on ram (?P<start>{HEX})(?: size: (?P<size>{HEX}){NUMBER_ENDS})?",
        "size",
    ),
    form(
        Kind.MEMREMAP_MIXED,
        "memremap attempted on",
        r"\bmemremap attempted on (?:mixed|unknown/mixed) range "
        rf"(?P<start>{HEX})(?: size: (?P<size>{HEX}){NUMBER_ENDS})?",
        "size",
    ),
    # memtype.c, memtype_kernel_map_sync(); pat.c's reserve_pfn_range() in 2.6.29, and for /dev/mem
    # phys_mem_access_prot_allowed() from 2.6.26 to 2.6.29, which put their names or the file's in front.
    form(
        Kind.CHANGE_FAILED,
        "ioremap_change_attr failed",
        rf"{_WHO}(?:/dev/mem |reserve_pfn_range )?ioremap_change_attr failed"
        rf"(?: (?P<asked>{TYPE})(?: for {_range()})?)?",
        "end",
    ),
    form(
        Kind.DEVMEM_REFUSED,
        "tried to access /dev/mem",
        rf"\bProgram (?P<process3>.{{1,15}}?) tried to access /dev/mem between(?: \[mem (?P<start>{HEX})-"
        rf"(?P<end>{HEX})(?P<bracket>\])| (?P<start_old>{HEX})->(?P<end_old>{HEX}))?",
    ),
    # kernel/resource.c, iomem_map_sanity_check(); the old form until 3.15.
    form(
        Kind.SANITY,
        "sanity check",
        # Both end with the last byte, which may be an even one: end = addr + size - 1, and %pR.
        rf"\bresource sanity check: requesting {_range(end='last')},? which spans more than "
        rf"(?P<other>.{{1,64}}?) {_range('_other', 'last')}",
    ),
    form(
        Kind.SANITY,
        "sanity check",
        rf"\bresource map sanity check conflict:? +(?P<start>{HEX}) (?P<last>{HEX}) "
        rf"(?P<start_other>{HEX}) "
        rf"(?P<last_other>{HEX}) (?P<other>\S.{{0,63}})",
    ),
    # arch/x86/mm/ioremap.c, __ioremap_caller() as of 4.4: a WARN, behind iomem_map_sanity_check()'s line.
    form(Kind.SANITY, "mapping multiple bars", r"\bInfo: mapping multiple BARs\. Your kernel is fine"),
    # arch/x86/mm/pgtable.c, pud_set_huge() and pmd_set_huge().
    form(
        Kind.HUGE_PAGE,
        "mtrr override",
        rf"\bp[mu]d_set_huge: Cannot satisfy {_range()} with a huge-page mapping due to MTRR override",
    ),
    # arch/x86/mm/pat/set_memory.c.
    form(
        Kind.CPA,
        "cpa",
        # verify_rwx() says "detected" since it is there, 6.1; "refuse" was linux-next's.
        r"\bCPA(?: (?:refuse|detected) W\^X violation| protect "
        r"|: called for zero pte\. vaddr = (?P<address>[0-9a-f]{1,16}))",
    ),
    *MTRR_FORMS,
    *FWTS_FORMS,
)

_TRIGGERS: Final = re.compile(
    "|".join(sorted({re.escape(each.trigger) for each in _FORMS}, key=len, reverse=True))
)

#: How the beginning of a trigger looks at the end of a line that was wrapped there.
_WRAPPED: Final = re.compile(
    r"\b(?:conflicting|memory types|map pfn|freeing|freeing invalid|ioremap|resource|resource sanity"
    r"|resource map"
    r"|memremap|memremap attempted|memtype_reserve|reserve_memtype"
    r"|mtrr:|x86/pat:.*|your cpus had|mtrrs disabled,|program \S+ tried)\s*$",
    re.I,
)

_CALLER: Final = re.compile(
    r"\bcaller (?P<function>[\w.]{1,120})\+0x[0-9a-f]+/0x[0-9a-f]+(?: \[[\w-]+\])? mapping multiple"
)


#: What a mail is about isn't what its sender's kernel said; nor is a question.
_SUBJECT: Final = re.compile(r"^\s*Subject: ", re.I)
_QUESTION: Final = re.compile(r"\s?\?")


def complaints(cursor: Cursor) -> tuple[list[Complaint], list[Line]]:
    """The messages of a text, in its order; and those that are cut.

    Lines of one wording that differ in no fact are one complaint.
    """
    found: list[Complaint] = []
    cut: list[Line] = []
    index = 0
    while index < len(cursor.rows):
        read = _read(cursor, index)
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
_REST: Final = re.compile(rf"^\s*-?{HEX} {_PAIR}\s*$", re.I)


def _is_rest(cursor: Cursor, index: int) -> bool:
    return "<->" in cursor.rows[index].message and _REST.match(cursor.rows[index].message) is not None


def _read(cursor: Cursor, index: int) -> tuple[Complaint, int, bool] | None:
    """The message that begins in a line, the number of its lines, and whether it is all there."""
    row = cursor.rows[index]
    lowered = row.message.lower()
    if (_TRIGGERS.search(lowered) is None and _WRAPPED.search(lowered) is None) or _SUBJECT.match(row.text):
        return None
    partial: tuple[Form, re.Match[str]] | None = None
    for text, count in cursor.pieces(index):
        body = _PAT_PREFIX.sub("", text).strip()
        stripped = len(text.rstrip()) - len(body)
        low = body.lower()
        for each in _FORMS:
            match = each.pattern.search(body) if each.trigger in low else None
            # What begins in a later line is that line's.
            if match is None or match.start() + stripped >= len(row.message.rstrip()):
                continue
            if each.whole and match[each.whole] is None:
                if row.prefixed or any(match.groups()):
                    partial = partial or (each, match)
            elif not row.prefixed and _QUESTION.match(body, match.end()):
                return None
            elif not _goes_on(cursor, index + count, body, match):
                return _complaint(each, match, row, cursor.use(index, count)), count, True
            break
    if partial is None:
        return None
    return _complaint(*partial, row, cursor.use(index), whole=False), 1, False


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
        if "mapping multiple" in row.message:
            match = _CALLER.search(row.message)
            if match is not None:
                cursor.use(index)
                named[row.number] = match["function"]
    if not named:
        return found
    checks = {line for each in found if each.kind is Kind.SANITY for line in each.lines}
    return [_with_caller(each, named, checks) if each.kind is Kind.SANITY else each for each in found]


def _with_caller(check: Complaint, named: Mapping[int, str], checks: Collection[int]) -> Complaint:
    """A failed sanity check with its caller, if the lines below each of its repetitions name one alone.

    :param check: The complaint.
    :param named: The functions that lines name, by the line.
    :param checks: The lines of all failed sanity checks: what stands below the next one is that one's.
    """
    below = set()
    for line in check.lines:
        for number in range(line + 1, line + 4):
            if number in checks:
                break
            if number in named:
                below.add(named[number])
                break
    return replace(check, caller=below.pop()) if len(below) == 1 else check
