"""Rules on known bugs of processes' mappings: of fork(), of splitting them, and of taking them down."""

from __future__ import annotations

from typing import Final

from pytest_memtype.dumps.facts import Complaint, Kind
from pytest_memtype.explain.bug_case import BugCase, Hit, Rule
from pytest_memtype.explain.logged_reservations import shortened_before
from pytest_memtype.explain.reservation_bugs import REFUSED_PAIRS, freed_unexplained

_FORK: Final = (
    r"\bfork(?:s|ed|ing)?\b|\bclone[sd]?\b|\bpopen\b|\bsystem\(|\bchild(?:ren)?\b"
    r"|\bsubprocess|\bstarts a helper"
)
_PRIVATE: Final = r"\bMAP_PRIVATE\b|\bprivate\b|\bcopy.on.write\b|\bCOW\b"
_NO_MEMORY: Final = r"\bENOMEM\b|cannot allocate memory|out of memory"
#: A fork that is said to have failed, within a sentence or so; "fail:0" is a test's that passed.
_FORK_FAILED: Final = (
    r"\b(?:fork\w*|clone[sd]?|popen|system)\b(?:(?!\b(?:not|never|no)\b|n't\b)[^\n]){0,80}?"
    r"\b(?:fail(?!\w*: ?0)|EINVAL|EAGAIN|refuse)"
    r"|\bfail\w* (?:\w+ ){0,4}(?:fork\w*|clone)\b"
)
#: Of whose splitting the talk is: screens and packages are split, too.
_MAPPING: Final = r"(?:vmas?\b|mapping|mapped|m(?:un)?map|pfnmap|reservation|region|range|pages?\b)"
# "_" ends a word: the selftest has pfnmap.munmap_split and mremap_shrink; an expansion splits nothing.
_SPLIT: Final = (
    r"(?<![^\W_])(?:mprotect|mremap(?!_expand)|madvise)(?![^\W_])"
    rf"|(?<![^\W_])splits?(?![^\W_])[^\n]{{0,60}}{_MAPPING}|{_MAPPING}[^\n]{{0,60}}(?<![^\W_])splits?(?![^\W_])"
    r"|\bunmap(?:s|ped|ping)? (?:\w+ ){0,3}(?:half|part|middle|page|piece)"
)
_PARTS: Final = r"\b(?:half|halves|part(?:s|ially)?|lower|upper|middle|piece[sm]?\w*|first page|last page)\b"


def _vma_split(case: BugCase) -> Hit | None:
    freed = freed_unexplained(case)
    if freed is None:
        return None
    lost = shortened_before(case.dump, freed)
    if lost is not None:
        return Hit(
            f"a part was given back before (line {lost.request.line}), and shortened the reservation that "
            "ends there"
        )
    parts = case.says(_SPLIT) or (case.says(r"\bmunmap\b|\bunmap") and case.says(_PARTS))
    if parts:
        return Hit(
            "a part of a mapping was changed or unmapped, and what is freed then is reserved as a whole"
        )
    if _fork_failed(case):
        return None
    # A driver that calls set_memory_wb() for pages that it never had says so, too.
    return Hit(
        "a range was freed that isn't reserved as such, as when a mapping had been split",
        sequence=False,
        alone=False,
    )


def _fork_frees(case: BugCase) -> Hit | None:
    forks = case.says(_FORK)
    freed = freed_unexplained(case)
    if freed is not None:
        if shortened_before(case.dump, freed) is not None:
            return None
        if _fork_failed(case):
            return Hit("after a fork() that failed, memory is freed that isn't reserved any more")
        return Hit(
            "a range was freed that isn't reserved, as after a fork() that failed",
            sequence=False,
            alone=False,
        )
    warning = _warned(case)
    if warning is not None and "copy_process" in warning.trace and not case.says(_FAULTS):
        return Hit(f"{warning.function}() warns below a fork() that failed", sequence=case.says(_PRIVATE))
    refused = case.kind(Kind.USER_REFUSED)
    if refused is not None and warning is not None and forks and fork_only(refused):
        return Hit("a fork() found another type than the parent's page table has")
    if (
        forks
        and case.says(_PRIVATE)
        and case.says(
            r"\b(?:entry|list|reservation)\b.{0,60}\b(?:gone|missing|lacks?|vanish\w*|disappear\w*|empty)\b"
        )
    ):
        return Hit("after a fork() that failed the reservation of memory that is still mapped is gone")
    return _alone(case, when="below a fork() that failed")


def _fork_failed(case: BugCase) -> bool:
    """Whether the writer says that a fork() failed, for want of memory or of a process with private pages."""
    failed = case.says(_NO_MEMORY) or (case.says(_PRIVATE) and case.says(_FORK_FAILED))
    return failed and case.says(_FORK)


def fork_only(complaint: Complaint) -> bool:
    """Whether only fork() can refuse this pair: it takes no other type, while mmap() does."""
    held = complaint.held[0] if len(complaint.held) == 1 else None
    return complaint.asked is not None and held is not None and (complaint.asked, held) not in REFUSED_PAIRS


_FAULTS: Final = (
    r"\bfail_nth\b|\bfault.injection\b|\bforcing a failure\b|\bsyz(?:bot|kaller"
    r"|_\w+)?\b|\bkmem\b|\bcgroup\b|\boom\b"
)


FIRST_PAGE: Final = frozenset(
    {"get_pat_info", "untrack_pfn", "track_pfn_copy", "untrack_pfn_vma", "track_pfn_vma_copy"}
)
"""Functions whose WARN means that the first page of a mapping isn't in the page table; two until 3.6."""


def _warned(case: BugCase) -> Complaint | None:
    return next((each for each in case.of(Kind.WARNING) if each.function in FIRST_PAGE), None)


def _alone(case: BugCase, *, when: str) -> Hit | None:
    """A WARN about a first page whose stack the text lacks: all bugs that lead there may be it, and others.

    :param case: The report.
    :param when: How the bug leads there.
    """
    warning = _warned(case)
    if warning is None or warning.trace:
        return None
    why = f"{warning.function}() warns, as {when}; the text has no stack that would tell"
    return Hit(why, sequence=False, alone=False)


def _fork_oom(case: BugCase) -> Hit | None:
    warning = _warned(case)
    if warning is None or not {"exit_mmap", "copy_process"} <= set(warning.trace):
        return _alone(case, when="where a child that is half made is torn down")
    if case.kind(Kind.USER_REFUSED) is not None:
        # fork() failed because of a type, and not for want of memory.
        return None
    return Hit(
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


def _remap_fails(case: BugCase) -> Hit | None:
    warning = _warned(case)
    if warning is None or not remap_failed(warning):
        return _alone(case, when="where remap_pfn_range() cleans up after its first page")
    return Hit(f"{warning.function}() warns where remap_pfn_range() cleans up after its first page")


def _fork_fails(case: BugCase) -> Hit | None:
    if case.dump.of(Kind.FREEING_INVALID, Kind.WARNING, Kind.USER_REFUSED):
        return None
    if (
        case.says(_FORK)
        and case.says(_PRIVATE)
        and case.says(_NO_MEMORY)
        and case.says(r"\bwr(?:ite|ites|ote|itten)\b")
    ):
        return Hit("fork() fails after a write to a private mapping")
    return None


def _private_write(case: BugCase) -> Hit | None:
    warning = _warned(case)
    if warning is None or "copy_process" in warning.trace:
        return None
    if not warning.trace:
        return _alone(case, when="where a private mapping is torn down whose first page was written")
    ends = {"exit_mmap", "do_munmap", "__do_munmap", "do_vmi_munmap", "do_vmi_align_munmap", "unmap_region"}
    if not ends & set(warning.trace) or {"zap_page_range_single", "unmap_mapping_range", "move_vma"} & set(
        warning.trace
    ):
        return None
    return Hit(
        "a mapping is torn down whose type can't be read from its first page",
        sequence=case.says(_PRIVATE),
        # A first page that was taken out, or never was there, does the same.
        alone=False,
    )


_ZAPS: Final = r"\bunmap_mapping_\w+|\bzap_\w+|\brevoke\w*"


def _zap(case: BugCase) -> Hit | None:
    zappers = {"zap_page_range_single", "unmap_mapping_range", "unmap_mapping_pages", "zap_vma_ptes"}
    warning = _warned(case)
    if warning is not None and zappers & set(warning.trace) and not remap_failed(warning):
        return Hit("taking pages out of the page tables gives back the reservation")
    if warning is not None and not warning.trace:
        return _alone(case, when="where pages are taken out of the page tables")
    if case.dump.complaints or not case.says(_ZAPS):
        return None
    if case.says(r"\b(?:gone|missing|lacks?|vanish\w*|disappear\w*|empty|no (?:longer|more))\b"):
        return Hit("pages were taken out of the page tables, and the reservation of the others is gone")
    return None


PROCESS_RULES: Final[dict[str, Rule]] = {
    "fork-fails": _fork_fails,
    "fork-frees-parents": _fork_frees,
    "fork-oom-leak": _fork_oom,
    "private-write-leak": _private_write,
    "remap-fails-at-once": _remap_fails,
    "vma-split-leak": _vma_split,
    "zap-untracks-all": _zap,
}
