"""Reading a text: all readers, and what none of them understood."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from itertools import islice
from typing import Final, TypeVar

from pytest_memtype.dumps.boots import boots, without_head
from pytest_memtype.dumps.coreboot import coreboot, coreboot_bits
from pytest_memtype.dumps.cpu_facts import Cpu
from pytest_memtype.dumps.facts import Complaint, Dump, Kind, Line, Mtrrs
from pytest_memtype.dumps.fwts import fwts
from pytest_memtype.dumps.iomem import iomem
from pytest_memtype.dumps.kernel_bugs import kernel_bugs
from pytest_memtype.dumps.kernel_facts import Kernel
from pytest_memtype.dumps.kernel_log import command_line, cpu, e820, machine, mtrr_map, pat, poisoned
from pytest_memtype.dumps.kernel_version import kernels
from pytest_memtype.dumps.lscpu import lscpu
from pytest_memtype.dumps.lspci import bars
from pytest_memtype.dumps.machines import elsewhere
from pytest_memtype.dumps.main_complaint import main_complaint
from pytest_memtype.dumps.memtype_list import memtype_list
from pytest_memtype.dumps.messages import callers, complaints, named
from pytest_memtype.dumps.msr_dump import msr_dump
from pytest_memtype.dumps.mtrr_check import mtrr_check
from pytest_memtype.dumps.mtrr_cleanup import attempts, mtrr_cleanup, with_results
from pytest_memtype.dumps.mtrr_debug import mtrr_debug
from pytest_memtype.dumps.not_shown import of_differences
from pytest_memtype.dumps.panics import oops, panic
from pytest_memtype.dumps.proc_mtrr import proc_mtrr
from pytest_memtype.dumps.request_stack import request_stack
from pytest_memtype.dumps.text import MOST_BYTES, MOST_LINES, Cursor, Row, rows
from pytest_memtype.dumps.u_boot import u_boot
from pytest_memtype.dumps.warnings import warnings
from pytest_memtype.dumps.whole_listings import of_one_text, of_whole_lines, without_gaps
from pytest_memtype.dumps.worded_warnings import with_stacks
from pytest_memtype.dumps.words import ABOUT, is_denied

MOST_UNREAD: Final = 100
"""The most lines that are listed as not understood, and as somebody's words."""

# Output about memory types: what begins so, or has a prefix of the log and such a word. A sentence of the
# writer's may begin with "MTRR" or "ioremap" as well: what follows the word tells them apart.
_OUTPUT: Final = re.compile(
    r"^\s*(?:x86/|mtrr(?::|_cleanup| *[=\d])|MTRR(?:s|_\w+)?(?::| *[=\d])"
    r"|MTRR (?:default|fixed|variable|map|MAP|allocation|check|overview|[Rr]anges?)\b"
    r"|\w{1,30}MTRR\w?: |reg\d|PAT(?::| (?:enabled|not|support)\b)|(?:io|mem)remap(?:_change|\w*\+0x|:)"
    r"|(?:io|mem)remap (?:error|memtype|reserve|on RAM|attempted)"
    r"|TOM2|resource (?:map )?sanity|CPA[: ])"
)
#: What debugpat adds to the log.
_DEBUG: Final = re.compile(
    r"\b(?:memtype_reserve|reserve_memtype) added|\b(?:free_memtype|memtype_free) request|\bOverlap at 0x",
    re.I,
)
#: Of the log, and no complaint: asked for with "debugpat" and "mtrr_cleanup_debug", or of nobody's interest.
_HARMLESS: Final = re.compile(
    r"\b(?:memtype_reserve added|reserve_memtype added|free_memtype request|memtype_free request|Overlap "
    r"at 0x"
    r"|Modules linked in|MTRRs set to read-only|MTRR variable ranges"
    r"|mtrr: probably your\b|probably your BIOS does not setup all CPUs|corrected configuration\."
    r"|MTRR MAP PFN"
    # The banner of the code for MTRRs until 2.6.9 or so, and a heading of the map of memory.
    r"|mtrr: v\d[\w.]{1,8} \(\d{8}\)|update e820 for mtrr)",
    re.I,
)
#: The beginning of what stands before a line of the log.
_FRAGMENT: Final = re.compile(r"^\s*(?:\[[ \d.]*|<\d{0,3}|[A-Z][a-z]{2} {1,2}\d{1,2}(?: [\d:]*)?)$")
#: What each boot says of itself alone.
_OF_BOOT: Final = frozenset({Kind.PAT_SKIPPED, Kind.PAT_ABSENT, Kind.PAT_DISABLED, Kind.MTRR_OFF})
#: What debugpat logs of every reservation.
_NO_COMPLAINTS: Final = frozenset({Kind.RESERVED, Kind.FREED})
#: Reasons for having no PAT.
_NO_PAT: Final = frozenset({Kind.PAT_SKIPPED, Kind.PAT_ABSENT, Kind.PAT_DISABLED})
_CALLS: Final = re.compile(
    r"\b(?:mmap|munmap|mprotect|mremap|madvise|fork|clone|vfork|system|popen|execve?|exit|ioremap(?:_\w+)?"
    r"|iounmap|memremap"
    r"|remap_pfn_range|io_remap_pfn_range|vmf?_insert_pfn\w*|pgprot_\w+|set_memory_\w+|set_pages_\w+"
    r"|dma_alloc_\w+"
    r"|dma_mmap_\w+|unmap_mapping_range|zap_\w+|arch_phys_wc_add|mtrr_add|resource\d(?:_wc)?|O_D?SYNC"
    r"|MAP_PRIVATE|MAP_SHARED"
    r"|PROT_\w+|nopat|pci_iomap\w*|pci_ioremap\w*|devm_\w*ioremap\w*|vfio\w*|io_uring\w*)\b|/dev/mem\b"
    r"|/dev/fb\d",
    re.I,
)


def read(text: bytes | str) -> Dump:
    """Read what machines print, and what people write around it.

    It takes time and memory in proportion to the text, of which at most
    :data:`pytest_memtype.dumps.text.MOST_BYTES` and :data:`pytest_memtype.dumps.text.MOST_LINES` are read.

    :param text: A log, a listing or a mail, or all of them in one.
    """
    data = text.encode(errors="replace") if isinstance(text, str) else text
    cursor = Cursor(rows(data))
    found, cut = complaints(cursor)
    found = with_results(cursor, callers(cursor, found))
    found = sorted([*found, *warnings(cursor), *kernel_bugs(cursor)], key=lambda each: each.line)
    found = with_stacks(found)
    mtrrs, odd = _mtrrs(cursor)
    differences = of_differences(cursor.rows)
    mtrrs = without_gaps(of_one_text(of_whole_lines(mtrrs, cursor), differences), found)
    found = _without_lists(cursor, found)
    line = _line_that_counts(found)
    out = frozenset() if line is None else elsewhere(cursor.rows, line)
    own, others = cursor.split(out) if out else (cursor, cursor.part(0, 0))
    parts, here, line = _boot_that_counts(boots(own), found)
    if line is not None and (strange := _of_other_machines(parts, here)):
        out |= strange
        own, others = cursor.split(out)
        parts, here, line = _boot_that_counts(boots(own), found)
    there = _lines(parts[here])
    found = [each for each in found if each.kind not in _OF_BOOT or any(n in there for n in each.lines)]
    if line is not None:
        found = [_aside(each, there, out) for each in found]
    kernel, known = kernels(parts, here, line)
    name, hypervisor = _first(machine, own, others)
    entries, shown = _first(memtype_list, own, others)
    if differences and any(each.line in differences for each in entries):
        entries, shown = tuple(each for each in entries if each.line not in differences), False
    bars(others, range(0))
    dump = Dump(
        kernel=kernel,
        kernels=tuple({each.release: each for each in (*known, *_named(others))}.values()),
        command_line=[command_line(each) for each in (*parts, others)][here],
        machine=name,
        hypervisor=hypervisor,
        e820=_first(e820, own, others),
        mtrrs=tuple(mtrrs if line is None else _with_boots(mtrrs, parts, here, out)),
        mtrr_map=[mtrr_map(each) for each in (*parts, others)][here],
        pat=[pat(each) for each in (*parts, others)][here],
        complaints=tuple(each for each in found if each.kind not in _NO_COMPLAINTS),
        panic=[panic(each) for each in parts][here],
        oops=[oops(each) for each in parts][here],
        made=tuple(each for each in found if each.kind is Kind.RESERVED and not each.aside),
        freed=tuple(each for each in found if each.kind is Kind.FREED and not each.aside),
        poisoned=poisoned(own),
        request_stack=request_stack(own),
        debug_lines=sum(_DEBUG.search(row.message) is not None for row in cursor.rows),
        attempts=attempts(cursor),
        entries=entries,
        entries_shown=shown,
        resources=_first(iomem, own, others),
        bars=bars(own, there),
        cpu=_cpu(own, [each for each in found if not each.aside], others),
        cut=(*cut, *odd),
        lines=len(cursor.rows),
        truncated=len(data) > MOST_BYTES or len(cursor.rows) >= MOST_LINES,
    )
    return _with_words(dump, cursor)


_Read = TypeVar("_Read")


def _first(reader: Callable[[Cursor], _Read], own: Cursor, others: Cursor) -> _Read:
    """The facts that a reader finds in the lines of one machine; those of others are understood as well."""
    found = reader(own)
    reader(others)
    return found


def _named(others: Cursor) -> tuple[Kernel, ...]:
    """The kernels that the lines of other machines name."""
    found = kernels([others], 0, None)[1] if others.rows else ()
    return tuple(replace(each, aside=True) for each in found)


def _line_that_counts(found: Sequence[Complaint]) -> int | None:
    """The line of the complaint that counts; None where there is none."""
    main = main_complaint([each for each in found if each.kind not in _NO_COMPLAINTS])
    main = main or next(iter(found), None)
    return None if main is None else main.line


def _of_other_machines(parts: Sequence[Cursor], here: int) -> frozenset[int]:
    """The lines of boots whose firmware calls its machine by another name than that of the one that counts.

    :param parts: The boots.
    :param here: The index of that which counts.
    """
    names = [machine(each)[0] for each in parts]
    if len({each for each in names if each is not None}) < 2:
        return frozenset()
    strange = [
        index for index, name in enumerate(names) if index != here and (name is None or name != names[here])
    ]
    return frozenset(row.number for index in strange for row in parts[index].rows)


def _aside(complaint: Complaint, there: range, out: Set[int]) -> Complaint:
    """A complaint, marked if it isn't known to be of the boot and the machine that count."""
    known = any(number in there and number not in out for number in complaint.lines or (complaint.line,))
    return complaint if known else replace(complaint, aside=True)


def _boot_that_counts(
    parts: list[Cursor], found: Sequence[Complaint]
) -> tuple[list[Cursor], int, int | None]:
    """The boots, the index of that of the complaint that counts, and its line; the last boot where none does.

    A complaint above several boots is of the first that has it, too; else what stands there is none's.
    """
    line = _line_that_counts(found)
    if line is None:
        return parts, len(parts) - 1, None
    main = next(each for each in found if each.line == line)
    head, rest = without_head(parts[0])
    if line in _lines(head) and (len(parts) > 1 or _is_later(main, rest)):
        what = (main.kind, main.span, main.function)
        same = (n for each in found if (each.kind, each.span, each.function) == what for n in each.lines)
        below = [n for n in same if n not in _lines(head)]
        if not below:
            return [head, rest, *parts[1:]], 0, line
        line = min(below)
    here = (index for index, part in enumerate(parts) if line in _lines(part))
    return parts, next(here, len(parts) - 1), line


def _is_later(main: Complaint, log: Cursor) -> bool:
    """Whether a complaint has a later time than the banner below it, so that it isn't of that log."""
    begun = log.rows[0].time if log.rows else None
    return main.time is not None and begun is not None and main.time > begun


def _with_boots(
    mtrrs: Sequence[Mtrrs], parts: Sequence[Cursor], here: int, out: Set[int] = frozenset()
) -> list[Mtrrs]:
    """The listings, of which those that the log of another boot has are marked, and those of other machines.

    :param mtrrs: The listings.
    :param parts: The boots of the text, of which each line is in one.
    :param here: The index of the boot that counts.
    :param out: The lines that aren't known to be of its machine.
    """
    there = _lines(parts[here])
    of_log = ("mtrr=debug", "mtrr_cleanup")
    return [
        replace(
            each,
            same_boot=each.source not in of_log or each.lines[0] in there,
            same_machine=each.lines[0] not in out,
        )
        for each in mtrrs
    ]


def _without_lists(cursor: Cursor, found: Sequence[Complaint]) -> list[Complaint]:
    """The messages without those of a text that lists what Linux may say.

    Of its reasons for having no PAT a boot gives one: pat_disable() (arch/x86/mm/pat/memtype.c; pat.c since
    4.7) is silent once it is off. Lines with the log's prefix are a log's all the same, maybe of two boots.
    """
    reasons = [each for each in found if each.kind in _NO_PAT]
    numbers = {number for each in reasons for number in each.lines}
    if len({each.raw for each in reasons}) < 2 or any(
        row.prefixed for row in cursor.rows if row.number in numbers
    ):
        return list(found)
    cursor.used.difference_update(numbers)
    return [each for each in found if each.kind not in _NO_PAT]


def _lines(part: Cursor) -> range:
    return range(part.rows[0].number, part.rows[-1].number + 1) if part.rows else range(0)


def _mtrrs(cursor: Cursor) -> tuple[list[Mtrrs], list[Line]]:
    listed, odd = proc_mtrr(cursor)
    found = [
        *listed,
        *mtrr_debug(cursor),
        *mtrr_cleanup(cursor),
        *fwts(cursor),
        *u_boot(cursor),
        *coreboot(cursor),
        *mtrr_check(cursor),
        *msr_dump(cursor),
    ]
    return sorted(_cut_at_the_end(found, cursor), key=lambda each: each.lines[0]), odd


def _cut_at_the_end(found: list[Mtrrs], cursor: Cursor) -> list[Mtrrs]:
    """The listings; one that a piece of a line follows at the end of the text may have more."""
    numbers = [row.number for row in cursor.rows if row.text.strip()]
    if len(numbers) < 2 or not any(_FRAGMENT.match(row.text) for row in cursor.rows[-2:] if row.text.strip()):
        return found
    return [replace(each, complete=each.complete and each.lines[-1] != numbers[-2]) for each in found]


def _cpu(cursor: Cursor, found: list[Complaint], others: Cursor) -> Cpu:
    lscpu(others, cpu(others))
    result = lscpu(cursor, cpu(cursor))
    if result.physical_bits is None:
        result = replace(result, physical_bits=coreboot_bits(cursor))
    if result.has_pat is None and any(each.kind is Kind.PAT_ABSENT for each in found):
        result = replace(result, has_pat=False)
    return result


def _with_words(dump: Dump, cursor: Cursor) -> Dump:
    """Add the writer's words, the messages in them, and the output that nobody has understood."""
    prose: list[Line] = []
    unread: list[Line] = []
    for row in cursor.rows:
        if row.number in cursor.used or not row.text.strip() or _HARMLESS.search(row.message):
            continue
        line = Line(row.number, row.text[:400])
        if _is_output(row):
            if ABOUT.search(row.message) and len(unread) < MOST_UNREAD:
                unread.append(line)
        elif len(prose) < MOST_UNREAD and re.search(r"[A-Za-z]{2}", row.text):
            prose.append(line)
    words = [
        match[0]
        for line in prose
        for match in _CALLS.finditer(line.text)
        if not is_denied(line.text, match.start())
    ]
    return replace(
        dump,
        prose=tuple(prose),
        unread=tuple(unread),
        named=tuple(islice(named(cursor), MOST_UNREAD)),
        user_calls=tuple(dict.fromkeys(words)),
    )


def _is_output(row: Row) -> bool:
    return row.prefixed or _OUTPUT.match(row.message) is not None
