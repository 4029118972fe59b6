"""The meaning of a report, by the complaint that counts in it, or by what it shows where none does."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from pytest_memtype.dumps.facts import Dump, Entry, Kind
from pytest_memtype.dumps.words import TOLD
from pytest_memtype.explain import linux_source
from pytest_memtype.explain.known_bugs import Suspect
from pytest_memtype.explain.register_stories import REGISTER_STORIES
from pytest_memtype.explain.request_stories import REQUEST_STORIES
from pytest_memtype.explain.reservation_bugs import freed_after_refusal
from pytest_memtype.explain.reservation_stories import RESERVATION_STORIES
from pytest_memtype.explain.story import NO_SIGN, Case, Story, who
from pytest_memtype.explain.subject import Subject
from pytest_memtype.explain.warning_stories import WARNING_STORIES
from pytest_memtype.x86.memtype import MemType

_STORIES: Final = {**RESERVATION_STORIES, **REQUEST_STORIES, **REGISTER_STORIES, **WARNING_STORIES}


def story(dump: Dump, about: Subject, suspects: Sequence[Suspect] = ()) -> Story:
    """The meaning of a report, by the complaint that counts in it.

    :param dump: What was read of the report.
    :param about: What it is about.
    :param suspects: Known bugs that it fits.
    """
    if about.main is None:
        if suspects and not about.entries:
            return _by_words(suspects)
        return _no_complaint(dump, about)
    tell = _STORIES[about.main.kind]
    return _with_freeing(dump, about, tell(Case(dump, about, about.main)))


def _with_freeing(dump: Dump, about: Subject, told: Story) -> Story:
    """The story of a refusal, with the lines that free what was refused: no trouble of their own."""
    freed = [each for each in freed_after_refusal(dump) if each.span == about.span]
    if not freed:
        return _with_others_freeing(dump, about, told)
    then = f"Line {freed[0].line} frees that range later, which isn't reserved as such, as it was refused"
    return replace(told, answer=f"{told.answer}. {then}")


def _with_others_freeing(dump: Dump, about: Subject, told: Story) -> Story:
    """The story of a refusal, with the first line of another process's that frees the same range."""
    if about.span is None or about.main is None or about.main.kind is Kind.FREEING_INVALID:
        return told
    freed = next((each for each in dump.of(Kind.FREEING_INVALID) if each.span == about.span), None)
    if freed is None:
        return told
    then = f"In line {freed.line} {who(freed)} gives back that range, of which nothing is reserved"
    return replace(told, answer=f"{told.answer}. {then}; why the text doesn't say")


def _by_words(suspects: Sequence[Suspect]) -> Story:
    """The meaning of a report without a line of the kernel's that fits a bug by what is told."""
    titles = " or ".join(f"{each.title} ({each.id})" for each in suspects)
    return Story(f"no line of the kernel's says so, but what is told fits a known bug: {titles}", "", "")


def _no_complaint(dump: Dump, about: Subject) -> Story:
    if about.span is not None and about.entries:
        return _listed(dump, about)
    if dump.entries_shown and not dump.entries:
        return Story(
            "the list of reservations is empty where the text shows it",
            "",
            NO_SIGN,
        )
    if dump.mtrrs or dump.mtrr_map is not None or dump.entries or dump.pat.types:
        found = [each for each, there in _shown(dump) if there]
        return Story(
            f"the text shows {', '.join(found)}, and no complaint of the kernel's about memory types"
            f"{_all_in_use(dump)}",
            "",
            NO_SIGN,
        )
    if dump.debug_lines:
        return Story(
            "the text shows how memory was reserved and given back (debugpat), and no complaint of the "
            "kernel's about memory types",
            "",
            NO_SIGN,
        )
    if dump.attempts:
        return Story(
            "the text shows what mtrr_cleanup tried, and not what came of it: the registers aren't in it",
            "arch/x86/kernel/cpu/mtrr/cleanup.c, mtrr_cleanup(): it tries sizes of granules and chunks, and "
            'prints the registers behind "New variable MTRRs" if one of them will do',
            NO_SIGN,
        )
    if dump.named and not dump.unread:
        return Story(
            f"line {dump.named[0].number} names a message of the kernel's about memory types, and the text "
            "shows none that a kernel has said",
            "",
            "",
        )
    if dump.unread or any(TOLD.search(line.text) for line in dump.prose):
        return Story("what the text has about memory types wasn't understood", "", "")
    return Story("nothing here is about memory types", "", "")


def _all_in_use(dump: Dump) -> str:
    """A sentence on variable MTRRs of which none is left, as far as the text says how many there are."""
    listing = dump.mtrr
    if listing is None or not listing.complete or listing.unused or len(dump.mtrrs) != 1:
        return ""
    used, count = len(listing.variable), None
    if listing.source == "mtrr=debug":
        # print_mtrr_state() lists the unused ones as well.
        count = used
    elif listing.source == "/proc/mtrr" and dump.mtrr_map is not None:
        count = dump.mtrr_map.variable
    if not used or used != count:
        return ""
    return f". All {used} variable MTRRs are in use, so that no driver gets another"


def _shown(dump: Dump) -> list[tuple[str, bool]]:
    return [
        ("MTRRs", dump.mtrr is not None or dump.mtrr_map is not None),
        ("headings of MTRRs without a register", bool(dump.mtrrs) and dump.mtrr is None),
        ("the PAT", bool(dump.pat.types)),
        ("reservations", bool(dump.entries)),
    ]


def _listed(dump: Dump, about: Subject) -> Story:
    """A question about the list of reservations."""
    assert about.span is not None
    differ = _lists_differ(about)
    if differ:
        return Story(differ, "", NO_SIGN)
    types = sorted({each.memtype for each in about.entries})
    names = " and ".join(each.kernel_name for each in types)
    answer = f"{about.span.start:x}-{about.span.end:x} is {names} in the list of reservations"
    neighbours = [
        each for each in dump.entries if each.span.end + 1 == about.span.start and each.memtype not in types
    ]
    if neighbours:
        each = neighbours[0]
        other = next((bar for bar in dump.bars if bar.span == each.span), None)
        mine = next((bar for bar in dump.bars if bar.span == about.span), None)
        whose = (
            "is the other BAR's" if other and mine else f"is of {each.span.start:x}-{each.span.end:x} alone"
        )
        answer = f"the list's ends are exclusive; {answer}, the {each.memtype.kernel_name} entry {whose}"
    place = linux_source.in_memtype(linux_source.age(dump), "memtype_reserve")
    asked = _asked_about(dump)
    there = asked & set(types)
    if asked and there in (set(), set(types)):
        answer = f"{'yes' if there else 'no'}: {answer}"
    return Story(
        answer,
        f"each line is one reservation, as {place} keeps them; the end that is printed "
        "is the byte behind the last. Memory that is RAM never stands there",
        NO_SIGN,
        (
            "what a mapping's page table really has, the list doesn't say: memtype audit reads that in a "
            "guest",
        ),
    )


def _lists_differ(about: Subject) -> str:
    """A sentence on memory that several lists of reservations have in other types; empty where they agree."""
    lists: dict[int, list[Entry]] = {}
    for each in about.entries:
        lists.setdefault(each.listing, []).append(each)
    if len({frozenset(each.memtype for each in entries) for entries in lists.values()}) < 2:
        return ""
    told = []
    for entries in lists.values():
        types = " and ".join(sorted({each.memtype.kernel_name for each in entries}))
        told.append(f"{types} in that of line {entries[0].line}")
    more = f", and {len(told) - _MOST_LISTS} more" if len(told) > _MOST_LISTS else ""
    lists_of_it = ", ".join(told[:_MOST_LISTS])
    return f"the text has several lists of reservations, which differ there: {lists_of_it}{more}"


#: So many lists are told.
_MOST_LISTS: Final = 4

_TYPES: Final = {
    "write-combining": {MemType.WC},
    "write-combined": {MemType.WC},
    "write-back": {MemType.WB},
    "cached": {MemType.WB},
    "write-through": {MemType.WT},
    "write-protected": {MemType.WP},
    "uncached-minus": {MemType.UC_MINUS},
    "uncached": {MemType.UC, MemType.UC_MINUS},
}
#: The end of "My NIC is slow: is the BAR at fe900000 write-combining?"
_QUESTION: Final = re.compile(
    rf"(?:is|are)\s+\S(?:.*\s)?(?P<type>{'|'.join(_TYPES)})(?:\s+(?:there|here|now|at \w+))?", re.I
)
#: Words of a question that yes and no are no answers to, or the wrong way round.
_OTHER_QUESTION: Final = re.compile(
    r"\b(?:way|possible|make|why|how|what|when|which|or|not|never|no)\b|n't\b", re.I
)


def _asked_about(dump: Dump) -> set[MemType]:
    """The types that a question of the writer's names, which yes or no is an answer to; none without."""
    for line in dump.prose:
        for sentence in re.findall(r"[^?]+(?=\?)", line.text):
            clause = re.split(r"[.,:;!]\s+", sentence.strip())[-1]
            asked = _QUESTION.fullmatch(clause)
            if asked is not None and not _OTHER_QUESTION.search(sentence):
                return _TYPES[asked["type"].lower()]
    return set()
