"""Which bugs of the catalogue a report fits, by rules: the message, the sequence, the version.

A rule knows no report. It says why, and whether the text leaves any doubt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from pytest_memtype.bugs.facts import Bug
from pytest_memtype.dumps.facts import Complaint, Dump, Kind, Span
from pytest_memtype.explain.bug_versions import presence, version_words
from pytest_memtype.explain.linux_source import age
from pytest_memtype.explain.subject import Subject, says
from pytest_memtype.x86.memtype import MemType

#: The pairs (asked for, held) that is_new_memtype_allowed() refuses (arch/x86/include/asm/pgtable.h).
REFUSED_PAIRS: Final = frozenset(
    {
        (MemType.UC_MINUS, MemType.WB),
        (MemType.WC, MemType.WB),
        (MemType.WT, MemType.WB),
        (MemType.WT, MemType.WC),
    }
)


@dataclass(frozen=True)
class Suspect:
    """A bug that a report fits.

    :param id: The bug's name in the catalogue.
    :param title: What goes wrong, in one line.
    :param why: What of the text fits it.
    :param sure: Whether the text leaves no doubt that it is this one.
    :param fits: Whether it fits by what the text says, and not just as the only one of the catalogue.
    """

    id: str
    title: str
    why: str
    sure: bool
    fits: bool = True


@dataclass(frozen=True)
class _Case:
    """A report, and what is asked of it."""

    dump: Dump
    about: Subject
    words: str

    def says(self, pattern: str) -> bool:
        """Whether the writer says something, and not that it wasn't so."""
        return says(self.words, pattern)

    def kind(self, *kinds: Kind) -> Complaint | None:
        return next(iter(self.dump.of(*kinds)), None)


@dataclass(frozen=True)
class _Hit:
    why: str
    #: What is there of the sequence of operations; without, the message alone speaks for the bug.
    sequence: bool = True
    #: Whether the message alone is enough; not where other things than bugs of the catalogue lead to it.
    alone: bool = True


_Rule = Callable[[_Case], _Hit | None]


def suspects(dump: Dump, about: Subject, bugs: Iterable[Bug]) -> list[Suspect]:
    """The bugs that a report fits, the likeliest first.

    :param dump: What was read of the report.
    :param about: What it is about.
    :param bugs: The catalogue.
    """
    case = _case(dump, about)
    known_age = age(dump)
    hits = []
    for bug in bugs:
        hit = _RULES[bug.id](case) if bug.id in _RULES else None
        if hit is None:
            continue
        there = presence(bug, known_age)
        if there is False:
            continue
        why = hit.why
        if bug.introduced or bug.fixed:
            why += f"; {version_words(dump.kernel, there)}"
        hits.append((hit, there is True or not (bug.introduced or bug.fixed), bug, why))
    # The sequence speaks louder than the message alone.
    best = [each for each in hits if each[0].sequence] or hits
    return [
        Suspect(bug.id, bug.title, why, sure=len(best) == 1 and known and fits, fits=fits)
        for hit, known, bug, why in best
        for fits in [hit.sequence or hit.alone]
    ]


def _case(dump: Dump, about: Subject) -> _Case:
    return _Case(dump, about, "\n".join([*(each.text for each in dump.prose), dump.command_line or ""]))


def surely_mixed(dump: Dump, about: Subject, conflict: Complaint) -> bool:
    """Whether the two types of a conflict are both held, and the first of them isn't the request's.

    Whoever takes no other type than his own has that named first (memtype_check_conflict()). Neither
    ioremap() nor mmap() is such a caller.

    :param dump: What was read of the report.
    :param about: What it is about.
    :param conflict: The line that names the two.
    """
    return (
        about.asked not in (None, conflict.held[0])
        or any(each.span == conflict.span for each in dump.of(Kind.IOREMAP_FAILED))
        or _case(dump, about).says(r"\bmmap\b|\bioremap(?:_\w+)?\b")
    )


def _mixed_overlap(case: _Case) -> _Hit | None:
    found = case.kind(Kind.CONFLICTING_TYPES)
    if found is None or case.about.strict or len(found.held) != 2:
        return None
    certain = surely_mixed(case.dump, case.about, found)
    return _Hit(
        f"the range has pieces of two types, {found.held[0]} and {found.held[1]}"
        + ("" if certain else ", unless the first is what was asked for"),
        sequence=certain,
        alone=False,
    )


def _wb_first(case: _Case) -> _Hit | None:
    for each in case.dump.of(Kind.IOREMAP_REFUSED, Kind.USER_REFUSED):
        if each.held == (MemType.WB,) and (each.asked, MemType.WB) in REFUSED_PAIRS:
            return _Hit(f"{each.asked} was asked for memory that is mapped write-back already")
    return None


def _ram_other_type(case: _Case) -> _Hit | None:
    found = case.kind(Kind.USER_RAM)
    if found is None or found.asked is None:
        return None
    return _Hit(
        f"a process's mapping of RAM was asked for as {found.asked}, and RAM keeps the type that it has"
    )


def _ram_not_counted(case: _Case) -> _Hit | None:
    found = case.kind(Kind.RAM_RESERVE_FAILED)
    if found is None:
        return None
    return _Hit("a page of the RAM isn't write-back any more, so it is somebody's already")


def _ioremap_ram(case: _Case) -> _Hit | None:
    found = case.kind(Kind.IOREMAP_ON_RAM)
    return None if found is None else _Hit("the kernel says that the memory is RAM")


_FORK: Final = (
    r"\bfork(?:s|ed|ing)?\b|\bclone[sd]?\b|\bpopen\b|\bsystem\(|\bchild(?:ren)?\b"
    r"|\bsubprocess|\bstarts a helper"
)
_PRIVATE: Final = r"\bMAP_PRIVATE\b|\bprivate\b|\bcopy.on.write\b|\bCOW\b"
_NO_MEMORY: Final = r"\bENOMEM\b|cannot allocate memory|out of memory"
_SPLIT: Final = (
    r"\bmprotect\b|\bmremap\b|\bmadvise\b|\bsplits?\b"
    r"|\bunmap(?:s|ped|ping)? (?:\w+ ){0,3}(?:half|part|middle|page|piece)"
)
_PARTS: Final = r"\b(?:half|halves|part(?:s|ially)?|lower|upper|middle|piece[sm]?\w*|first page|last page)\b"


def _is_physical(complaint: Complaint) -> bool:
    """Whether the range can be physical: 2.6.31 printed some addresses with their sign extended."""
    return complaint.span is not None and complaint.span.end >> 52 == 0


def freed_after_refusal(dump: Dump) -> list[Complaint]:
    """Lines that free what was asked for and refused further above: it isn't reserved, as nobody got it.

    :param dump: What was read of the report.
    """
    refused: dict[Span | None, int] = {}
    for each in dump.of(Kind.RESERVE_FAILED, Kind.CONFLICTING_TYPES):
        refused.setdefault(each.span, each.line)
    freed = dump.of(Kind.FREEING_INVALID)
    return [each for each in freed if each.span is not None and refused.get(each.span, each.line) < each.line]


def _freed(case: _Case) -> Complaint | None:
    """A range that was freed and isn't reserved, for a reason that the text doesn't give."""
    explained = {each.line for each in freed_after_refusal(case.dump)}
    freed = (each for each in case.dump.of(Kind.FREEING_INVALID) if each.line not in explained)
    return next(filter(_is_physical, freed), None)


def _vma_split(case: _Case) -> _Hit | None:
    if _freed(case) is None:
        return None
    parts = case.says(_SPLIT) or (case.says(r"\bmunmap\b|\bunmap") and case.says(_PARTS))
    if parts:
        return _Hit(
            "a part of a mapping was changed or unmapped, and what is freed then is reserved as a whole"
        )
    if case.says(_FORK) and case.says(_PRIVATE):
        return None
    # A driver that calls set_memory_wb() for pages that it never had says so, too.
    return _Hit(
        "a range was freed that isn't reserved as such, as when a mapping had been split",
        sequence=False,
        alone=False,
    )


def _fork_frees(case: _Case) -> _Hit | None:
    forks = case.says(_FORK)
    if _freed(case) is not None:
        if forks and (case.says(_PRIVATE) or case.says(_NO_MEMORY)):
            return _Hit("after a fork() that failed, memory is freed that isn't reserved any more")
        return _Hit(
            "a range was freed that isn't reserved, as after a fork() that failed",
            sequence=False,
            alone=False,
        )
    warning = _warned(case)
    if warning is not None and "copy_process" in warning.trace and not case.says(_FAULTS):
        return _Hit(f"{warning.function}() warns below a fork() that failed", sequence=case.says(_PRIVATE))
    refused = case.kind(Kind.USER_REFUSED)
    if refused is not None and warning is not None and forks and _fork_only(refused):
        return _Hit("a fork() found another type than the parent's page table has")
    if (
        forks
        and case.says(_PRIVATE)
        and case.says(
            r"\b(?:entry|list|reservation)\b.{0,60}\b(?:gone|missing|lacks?|vanish\w*|disappear\w*|empty)\b"
        )
    ):
        return _Hit("after a fork() that failed the reservation of memory that is still mapped is gone")
    return None


def _fork_only(complaint: Complaint) -> bool:
    """Whether only fork() can refuse this pair: it takes no other type, while mmap() does."""
    held = complaint.held[0] if len(complaint.held) == 1 else None
    return complaint.asked is not None and held is not None and (complaint.asked, held) not in REFUSED_PAIRS


_FAULTS: Final = (
    r"\bfail_nth\b|\bfault.injection\b|\bforcing a failure\b|\bsyz(?:bot|kaller"
    r"|_\w+)?\b|\bkmem\b|\bcgroup\b|\boom\b"
)


FIRST_PAGE: Final = frozenset({"get_pat_info", "untrack_pfn", "track_pfn_copy"})
"""Functions whose WARN means that the first page of a mapping isn't in the page table."""


def _warned(case: _Case) -> Complaint | None:
    return next((each for each in case.dump.of(Kind.WARNING) if each.function in FIRST_PAGE), None)


def _fork_oom(case: _Case) -> _Hit | None:
    warning = _warned(case)
    if warning is None or not {"exit_mmap", "copy_process"} <= set(warning.trace):
        return None
    if case.kind(Kind.USER_REFUSED) is not None:
        # fork() failed because of a type, and not for want of memory.
        return None
    return _Hit(
        f"{warning.function}() warns where a child that is half made is torn down",
        sequence=case.says(_FAULTS),
        alone=False,
    )


def remap_failed(warning: Complaint) -> bool:
    """Whether a WARN is of remap_pfn_range() that takes away what it has mapped before it failed."""
    trace = warning.trace
    return (
        warning.function in FIRST_PAGE
        and {"zap_page_range_single", "remap_pfn_range"} <= set(trace)
        and trace.index("zap_page_range_single") < trace.index("remap_pfn_range")
    )


def _remap_fails(case: _Case) -> _Hit | None:
    warning = _warned(case)
    if warning is None or not remap_failed(warning):
        return None
    return _Hit(f"{warning.function}() warns where remap_pfn_range() cleans up after its first page")


def _fork_fails(case: _Case) -> _Hit | None:
    if case.dump.of(Kind.FREEING_INVALID, Kind.WARNING, Kind.USER_REFUSED):
        return None
    if (
        case.says(_FORK)
        and case.says(_PRIVATE)
        and case.says(_NO_MEMORY)
        and case.says(r"\bwr(?:ite|ites|ote|itten)\b")
    ):
        return _Hit("fork() fails after a write to a private mapping")
    return None


def _private_write(case: _Case) -> _Hit | None:
    warning = _warned(case)
    if warning is None or "copy_process" in warning.trace:
        return None
    ends = {"exit_mmap", "do_munmap", "__do_munmap", "do_vmi_munmap", "do_vmi_align_munmap", "unmap_region"}
    if not ends & set(warning.trace) or {"zap_page_range_single", "unmap_mapping_range", "move_vma"} & set(
        warning.trace
    ):
        return None
    return _Hit(
        "a mapping is torn down whose type can't be read from its first page",
        sequence=case.says(_PRIVATE),
        # A first page that was taken out, or never was there, does the same.
        alone=False,
    )


_ZAPS: Final = r"\bunmap_mapping_\w+|\bzap_\w+|\brevoke\w*"


def _zap(case: _Case) -> _Hit | None:
    zappers = {"zap_page_range_single", "unmap_mapping_range", "unmap_mapping_pages", "zap_vma_ptes"}
    warning = _warned(case)
    if warning is not None and zappers & set(warning.trace) and not remap_failed(warning):
        return _Hit("taking pages out of the page tables gives back the reservation")
    if case.dump.complaints or not case.says(_ZAPS):
        return None
    if case.says(r"\b(?:gone|missing|lacks?|vanish\w*|disappear\w*|empty|no (?:longer|more))\b"):
        return _Hit("pages were taken out of the page tables, and the reservation of the others is gone")
    return None


def _nopat_devmem(case: _Case) -> _Hit | None:
    off = case.says(r"\bnopat\b") or case.kind(Kind.PAT_DISABLED, Kind.PAT_ABSENT) is not None
    if off and case.says(r"/dev/mem") and case.says(r"\bO_D?SYNC\b|\bcache|\bwrite-back\b"):
        return _Hit("the PAT is off, and /dev/mem was opened with O_SYNC")
    return None


_ASKS_WC: Final = (
    r"\bresource\d_wc\b|\bioremap_wc\b|\bpgprot_writecombine\b|\bpci_iomap_wc\w*"
    r"|\bdevm_ioremap_wc\b|\bio_mapping_\w+"
)


def _silent(case: _Case) -> _Hit | None:
    main = case.about.main
    if main is not None and main.kind is Kind.RESERVED:
        down = (main.asked, main.granted) == (MemType.WC, MemType.UC_MINUS)
        return _Hit("write-combining was asked for, and uncached-minus was given") if down else None
    if [each for each in case.dump.complaints if each.kind not in (Kind.SANITY, Kind.MTRR_INCONSISTENT)]:
        return None
    types = case.dump.pat.types
    if not case.says(_ASKS_WC) or (types and MemType.WC not in types):
        return None
    if case.about.entries and all(each.memtype is MemType.UC_MINUS for each in case.about.entries):
        return _Hit("write-combining was asked for, and the list has the memory as uncached-minus")
    return None


def _insert_pfn(case: _Case) -> _Hit | None:
    if case.dump.complaints or not case.says(r"\bvmf?_insert_(?:pfn|mixed)\w*"):
        return None
    if case.says(r"\bwrite-combin\w*|\bwc\b") and case.says(r"\buncached\b|\buc\b"):
        return _Hit("pages are inserted one by one, which reserves nothing, and two types meet")
    return None


def _pieces_of_one(case: _Case) -> _Hit | None:
    fails = r"\bmmap(?:64)?(?:\(\))?\b.{0,60}\b(?:fail\w*|EINVAL|invalid argument)"
    if case.dump.complaints or not case.says(fails):
        return None
    if case.says(r"\bhfi1\w*|\bpsm2\b|\bvm_(?:start|end)\s*[-+]?=(?!=)"):
        return _Hit(
            "mmap() of a driver that moves the bounds of its VMA to one piece of memory after the other"
        )
    return None


def _set_memory_alias(case: _Case) -> _Hit | None:
    if case.dump.complaints or not case.says(r"\bset_memory_(?:uc|wc)\b|\bset_pages_array_(?:uc|wc)\b"):
        return None
    if case.says(r"\b(?:still|stays?|remains?|left|keeps?)\b.{0,60}\b(?:write-back|cached|wb)\b"):
        return _Hit("the kernel's mapping was changed, and a process's mapping of the same RAM wasn't")
    return None


def _ioremap_uc(case: _Case) -> _Hit | None:
    if case.dump.complaints or not case.says(r"\bioremap_uc\b"):
        return None
    held = case.about.entries and all(each.memtype is MemType.WB for each in case.about.entries)
    return _Hit("ioremap_uc() was asked for, and the memory is write-back") if held else None


def _mprotect(case: _Case) -> _Hit | None:
    refused = case.kind(Kind.USER_REFUSED)
    if (
        refused is not None
        and refused.held
        and not (_fork_only(refused) and refused.held[0] in (MemType.WT, MemType.WP))
    ):
        return None
    if case.dump.of(Kind.FREEING_INVALID) or not case.says(r"\bmprotect\b"):
        return None
    if refused is not None or case.says(
        r"\b(?:type|pat|caching|write-through|write-combining)\b.{0,60}\b(?:lost|loses|changed?|changes"
        r"|drops?|becomes?|turns?)\b"
    ):
        return _Hit("mprotect() changed the type of a mapping")
    return None


def _neighbour(case: _Case) -> _Hit | None:
    kernel = case.dump.kernel
    if kernel is None or not kernel.release.startswith(("5.5.0-rc", "5.5-rc")):
        return None
    return _Hit("memory next to an uncached range is uncached") if case.says(r"\bslow|\buncached") else None


def _agp(case: _Case) -> _Hit | None:
    return (
        _Hit("RAM of the AGP aperture is corrupt")
        if case.says(r"\bAGP\b") and case.says(r"\bcorrupt")
        else None
    )


_RULES: Final[dict[str, _Rule]] = {
    "agp-2002": _agp,
    "fork-fails": _fork_fails,
    "fork-frees-parents": _fork_frees,
    "fork-oom-leak": _fork_oom,
    "insert-pfn-untracked": _insert_pfn,
    "ioremap-ram": _ioremap_ram,
    "ioremap-uc": _ioremap_uc,
    "mixed-overlap": _mixed_overlap,
    "mprotect-pat-bit": _mprotect,
    "neighbour-decides": _neighbour,
    "nopat-devmem": _nopat_devmem,
    "pieces-of-one-mapping": _pieces_of_one,
    "private-write-leak": _private_write,
    "ram-not-counted": _ram_not_counted,
    "ram-other-type": _ram_other_type,
    "remap-fails-at-once": _remap_fails,
    "set-memory-alias": _set_memory_alias,
    "silent-downgrade": _silent,
    "vma-split-leak": _vma_split,
    "wb-first": _wb_first,
    "zap-untracks-all": _zap,
}
"""A rule for each bug of the suite's catalogue that a report can show. A bug of one's own has none."""
