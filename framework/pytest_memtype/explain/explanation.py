"""The explanation of a report, in words and for programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from pytest_memtype.bugs.facts import Bug
from pytest_memtype.dumps.facts import Complaint, Dump, Kind, Span
from pytest_memtype.dumps.main_complaint import MEMORY
from pytest_memtype.dumps.worded_warnings import WORDS
from pytest_memtype.errors import LayoutError, UsageError
from pytest_memtype.explain.imported_layout import Imported, layout_of, layout_of_listing
from pytest_memtype.explain.known_bugs import Suspect, suspects
from pytest_memtype.explain.linux_source import without_contradicted_kernel
from pytest_memtype.explain.machine_map import owner_of, registers_of
from pytest_memtype.explain.missing import missing
from pytest_memtype.explain.stories import story
from pytest_memtype.explain.story import Story, said, where, who
from pytest_memtype.explain.subject import Subject, subject
from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import MtrrType
from pytest_memtype.x86.mtrr_runs import runs
from pytest_memtype.x86.size import format_size

NONE: Final = "none"
"""The word for a fact that the report doesn't carry."""

_MOST: Final = 8


@dataclass(frozen=True)
class Explanation:
    """The explanation of a report.

    :param dump: What was read of it.
    :param about: What it is about.
    :param story: What the complaint that counts in it means.
    :param suspects: Known bugs that it fits, the likeliest first.
    :param machine: The layout of its machine, if it has MTRRs.
    """

    dump: Dump
    about: Subject
    story: Story
    suspects: tuple[Suspect, ...]
    machine: Imported | None

    @property
    def known_bug(self) -> str:
        """The id of the known bug, or ``none`` where none fits for sure, or more than one."""
        return self.suspects[0].id if len(self.suspects) == 1 and self.suspects[0].fits else NONE


def explain(dump: Dump, bugs: Iterable[Bug], *, name: str = "report") -> Explanation:
    """Explain a report.

    :param dump: What was read of it.
    :param bugs: The catalogue of bugs.
    :param name: The name of its machine's layout.
    """
    dump = without_contradicted_kernel(dump)
    about = subject(dump)
    found = suspects(dump, about, bugs)
    machine: Imported | None
    try:
        machine = layout_of(dump, name)
    except UsageError:
        machine = None
    told = story(dump, about, found)
    if about.main is not None and dump.oops is not None:
        told = replace(
            told, answer=f"{told.answer}. The Oops in line {dump.oops.number} isn't explained here"
        )
    if about.main is not None and any(each.number == about.main.line for each in dump.cut):
        told = replace(told, answer=f"the line is cut, so that not all can be said of it: {told.answer}")
    return Explanation(dump, about, told, tuple(found), machine)


def as_json(explanation: Explanation) -> dict[str, Any]:
    """The facts of a report, ``none`` for what it doesn't carry.

    ``held`` is a list, ``range`` the first and the last address, ``layout`` the registers of its machine.
    """
    dump, about = explanation.dump, explanation.about
    found: dict[str, Any] = {
        "kernel": dump.kernel.series if dump.kernel is not None else NONE,
        "release": dump.kernel.release if dump.kernel is not None else NONE,
        "range": [f"{about.span.start:#x}", f"{about.span.end:#x}"] if about.span is not None else NONE,
        "held": [each.name for each in about.held] or NONE,
        "asked": about.asked.name if about.asked is not None else NONE,
        "granted": about.granted.name if about.granted is not None else NONE,
        "known_bug": explanation.known_bug,
        "suspects": [{"bug": each.id, "sure": each.sure, "why": each.why} for each in explanation.suspects],
        "answer": explanation.story.answer,
        "unread": [each.number for each in dump.unread],
        "cut": [each.number for each in dump.cut],
    }
    if explanation.machine is not None:
        layout = explanation.machine.layout
        # What is taken for a default that isn't said goes by the registers, of which some may be missing.
        known = explanation.machine.default_is_said or explanation.machine.complete
        found["layout"] = {
            "default": layout.default.name if layout.default is not None and known else NONE,
            "ranges": [
                [f"{each.base:#x}", format_size(each.size), each.memtype.name] for each in layout.ranges
            ],
            "physical_bits": explanation.machine.physical_bits,
            "notes": list(explanation.machine.notes),
        }
        masks = [each for each in layout.ranges if each.ignored_bits]
        if masks:
            found["layout"]["ignored_bits"] = {f"{each.base:#x}": f"{each.ignored_bits:#x}" for each in masks}
    else:
        found["layout"] = NONE
    return found


@dataclass(frozen=True)
class Section:
    """A part of the explanation.

    :param title: Its heading.
    :param lines: Its paragraphs; an item of a list each if there are several.
    """

    title: str
    lines: tuple[str, ...]


def sections(explanation: Explanation) -> list[Section]:
    """The explanation in words, part by part; parts that have nothing to say are left out."""
    dump, about, told = explanation.dump, explanation.about, explanation.story
    parts = [
        Section("In short", (_sentence(told.answer),)),
        Section("The kernel", tuple(_kernel(dump))),
        Section("The memory", tuple(_memory(explanation))),
        Section("The types", tuple(_types(explanation))),
        Section("The rule of Linux", (_sentence(told.rule),) if told.rule else ()),
        Section("The rule of the verifier", tuple(_verifier(explanation))),
        Section("Is that dangerous?", (_sentence(told.danger),) if told.danger else ()),
        Section("Known bugs", tuple(_bugs(explanation))),
        Section("What people do", tuple(_sentence(each) for each in told.advice)),
        Section("Besides", tuple(_besides(explanation))),
        Section("What is missing", tuple(_sentence(each) for each in missing(dump, about))),
        Section("Not understood", tuple(_unread(explanation))),
    ]
    return [each for each in parts if each.lines]


def _sentence(text: str) -> str:
    # Names of files, functions and parameters stay as they are.
    first = text.split(" ", 1)[0]
    plain = first.rstrip(",:").isalpha() and first not in ("nopat", "disable_mtrr_cleanup")
    start = text[:1].upper() if plain else text[:1]
    return f"{start}{text[1:]}{'' if text.endswith(('.', '?', ':')) else '.'}"


def _kernel(dump: Dump) -> Iterator[str]:
    kernel = dump.kernel
    if kernel is None:
        if len(dump.kernels) > 1:
            yield "The text names several kernels, and not which one it is of."
        for each in dump.kernels if len(dump.kernels) == 1 else ():
            # What a kernel says of itself is true, of its own machine and boot.
            of_it = (
                "doesn't say that it is of that kernel"
                if each.own or each.aside
                else "is hardly of that kernel"
            )
            yield f"The text names Linux {each.release} (line {each.line}), and {of_it}."
        return
    of = f" of {kernel.distribution}" if kernel.distribution else ""
    doubt = ""
    if kernel.newest != kernel.version:
        doubt = " Commits were added to that; which the text doesn't say."
    elif not kernel.exact:
        doubt = f" Which update of {kernel.series} that is isn't said."
    yield f"Linux {kernel.release}{of} (line {kernel.line}).{doubt}"


def _memory(explanation: Explanation) -> Iterator[str]:
    dump, about = explanation.dump, explanation.about
    if about.span is None:
        return
    lines = [each.line for each in dump.complaints if each.span == about.span]
    if about.main is not None and about.main.span == about.span:
        place = about.main.line
    else:
        place = about.entries[0].line if about.entries else lines[0]
    yield f"{where(about.span)}, line {place}."
    owners = owner_of(dump, about.span)
    for name, span in owners[:_MOST]:
        how = "all of it" if span.contains(about.span) else f"{where(span)} of it or beside it"
        yield f"It is {name}: {how}."
    if not owners:
        yield "Whose memory that is the text doesn't say."
    machine = explanation.machine
    if machine is not None and about.span.end >> machine.physical_bits == 0:
        yield from _by_mtrrs(dump, machine, about.span)


def _by_mtrrs(dump: Dump, machine: Imported, span: Span) -> Iterator[str]:
    if dump.mtrr is not None and not dump.mtrr.same_machine:
        yield "The MTRRs that the text lists may be another machine's."
        return
    if dump.mtrr is not None and not dump.mtrr.same_boot:
        yield "The MTRRs that the text lists are another boot's."
        return
    start, end = span.start & ~0xFFF, (span.end | 0xFFF) + 1
    found = _runs(machine, start, end)
    if _differ(dump, found, start, end):
        yield "The text lists the MTRRs more than once, and not alike there."
        return
    for run in found:
        where_it_is = f"{run.start:#x}-{run.end - 1:#x}"
        if run.memtype is None:
            yield f"No register covers {where_it_is}; the default type isn't in the text."
        else:
            yield f"The MTRRs say {run.memtype} of {where_it_is}."


@shown_in_hexadecimal("start", "end")
@dataclass(frozen=True)
class _Run:
    """Neighbouring addresses that the MTRRs give one type; None where the default type isn't said."""

    start: int
    end: int
    memtype: MtrrType | None


def _runs(machine: Imported, start: int, end: int) -> list[_Run]:
    """The types that registers give a range; none where they may not be all, or give too many."""
    if not machine.complete or (start < 1 << 20 and machine.layout.fixed is None):
        return []
    found = []
    try:
        for run in runs(registers_of(machine), start, end):
            covered = any(each.base <= run.start < each.base + each.size for each in machine.layout.ranges)
            said_there = covered or machine.default_is_said
            found.append(_Run(run.start, run.end, run.memtype if said_there else None))
            if len(found) > _MOST:
                return []
    except (LayoutError, ValueError):
        return []
    return found


def _differ(dump: Dump, found: list[_Run], start: int, end: int) -> bool:
    """Whether another listing of the text's says another type of any of a range."""
    ours = (each for each in dump.mtrrs if each.is_map and each.same_machine)
    others = {replace(each, lines=(), result=True): each for each in ours}
    for listing in list(others.values())[:_MOST]:
        try:
            theirs = _runs(layout_of_listing(dump, listing), start, end)
        except UsageError:
            continue
        for one in found:
            for other in theirs:
                together = one.start < other.end and other.start < one.end
                if together and None not in (one.memtype, other.memtype) and one.memtype is not other.memtype:
                    return True
    return False


def _types(explanation: Explanation) -> Iterator[str]:
    about = explanation.about
    # What fwts found nobody has asked for, and the registers hold it.
    by_request = about.main is None or about.main.kind is not Kind.FWTS
    if about.main is not None and by_request and (about.asked is not None or _is_somebodys(about.main)):
        yield _sentence(f"asked for: {said(about.asked)}, by {who(about.main)}")
    if about.held and by_request:
        both = " and ".join(said(each) for each in about.held)
        yield _sentence(f"held: {both}; by whom the line doesn't say{_other_request(explanation.dump)}")
    if about.granted is not None:
        yield _sentence(f"given: {said(about.granted)}")
    for each in about.entries[:_MOST]:
        yield f"The list of reservations has {where(each.span)} as {said(each.memtype)} (line {each.line})."


def _is_somebodys(main: Complaint) -> bool:
    """Whether a complaint is about a request, and names whose it is."""
    return main.kind is Kind.CONFLICTING_TYPES and main.process is not None


def _other_request(dump: Dump) -> str:
    """The stack of a reservation that somebody had printed, by a WARNING of their own in the kernel."""
    for each in dump.of(Kind.WARNING):
        # Linux itself warns there of what is no range, in words of its own.
        worded = dump.of(*WORDS.get(each.function or "", ()))
        if each.function in ("memtype_reserve", "reserve_memtype") and each.trace and not worded:
            callers = ", ".join(f"{name}()" for name in each.trace[:4])
            return f". The text has a stack of a request, called by {callers} (line {each.line})"
    return ""


def _verifier(explanation: Explanation) -> Iterator[str]:
    """Sentences on how the verifier's specification answers the same request."""
    about = explanation.about
    main = about.main
    if main is None or main.kind not in MEMORY or about.asked is None:
        return
    if main.kind in (Kind.USER_RAM, Kind.RAM_RESERVE_FAILED):
        if about.asked is not MemType.WB:
            yield "Rule 1 refuses it (EPERM): RAM is asked for with another type than write-back."
        return
    different = [each for each in about.held if each is not about.asked]
    if different:
        yield (
            f"Rule 2 refuses it (EBUSY): memory that is mapped as {' and '.join(map(str, different))} is "
            f"asked for as "
            f"{about.asked}, and every mapping of a page must have one type."
        )


def _bugs(explanation: Explanation) -> Iterator[str]:
    for each in explanation.suspects:
        doubt = "" if each.sure else " (perhaps)"
        yield f"{each.id}{doubt}: {each.title}. Why: {each.why}. memtype bugs show {each.id} tells its story."
    main = explanation.about.main
    if not explanation.suspects and main is not None and main.kind in MEMORY:
        yield "No bug of the catalogue fits what the text says."


def _besides(explanation: Explanation) -> Iterator[str]:
    about, panic = explanation.about, explanation.dump.panic
    if panic is not None and about.main is not None and about.main.line < panic.number:
        yield (
            f"line {panic.number}: the kernel panics later ({panic.text}). Whether that comes of it the text "
            "doesn't say"
        )
    oops = explanation.dump.oops
    if oops is not None and about.main is not None:
        yield f"line {oops.number}: an Oops ({oops.text}), whose message says nothing of memory types"
    shown = 0
    for each in explanation.dump.complaints:
        same = about.span is not None and each.span == about.span and each.kind is not Kind.MTRR_NOT_REMOVED
        if each is about.main or same:
            continue
        if shown == _MOST:
            yield "And more of the kind."
            return
        shown += 1
        times = f", {each.repeated} times" if each.repeated > 1 else ""
        yield f"line {each.line}{times}: {each.raw}"


def _unread(explanation: Explanation) -> Iterator[str]:
    dump = explanation.dump
    if dump.mtrr is not None and explanation.machine is None:
        yield f"line {min(dump.mtrr.lines)}: {dump.mtrr.source} has more registers there than a CPU can have"
    for each in dump.cut[:_MOST]:
        yield f"line {each.number}, which is cut: {each.text[:160]}"
    for each in dump.unread[:_MOST]:
        yield f"line {each.number}: {each.text[:160]}"
    more = len(dump.unread) - _MOST
    if more > 0:
        yield f"and {more} lines more"
    if dump.truncated:
        yield "its end, which wasn't read: the text is too long; cut out what is about memory types"
