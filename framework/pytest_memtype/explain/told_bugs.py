"""Rules on known bugs that say nothing in the log: what the writer tells of them."""

from __future__ import annotations

from typing import Final

from pytest_memtype.dumps.facts import Kind
from pytest_memtype.explain.bug_case import BugCase, Hit, Rule
from pytest_memtype.explain.process_bugs import fork_only
from pytest_memtype.x86.memtype import MemType

#: Said by the list of reservations alone, which Linux keeps where it uses the PAT.
_WITH_PAT: Final = (
    Kind.CONFLICTING_TYPES,
    Kind.RESERVE_FAILED,
    Kind.FREEING_INVALID,
    Kind.USER_REFUSED,
    Kind.USER_RAM,
)
#: Whoever advises to boot with "nopat", or asks about it, hasn't.
_NOPAT: Final = r"\b(?:has|had|have|uses?|using|under|set|(?<!boot )(?<!try )with) [\"'`]?nopat\b"


def _nopat_devmem(case: BugCase) -> Hit | None:
    if case.of(*_WITH_PAT):
        return None
    off = "nopat" in (case.dump.command_line or "").split() or case.says(_NOPAT)
    if (
        (off or case.of(Kind.PAT_DISABLED, Kind.PAT_ABSENT))
        and case.says(r"/dev/mem")
        and case.says(r"\bO_D?SYNC\b|\bcache|\bwrite-back\b")
    ):
        return Hit("the PAT is off, and /dev/mem was opened with O_SYNC")
    return None


_ASKS_WC: Final = (
    r"\bresource\d_wc\b|\bioremap_wc\b|\bpgprot_writecombine\b|\bpci_iomap_wc\w*"
    r"|\bdevm_ioremap_wc\b|\bio_mapping_\w+"
)


def _silent(case: BugCase) -> Hit | None:
    main = case.about.main
    if main is not None and main.kind is Kind.RESERVED:
        down = (main.asked, main.granted) == (MemType.WC, MemType.UC_MINUS)
        return Hit("write-combining was asked for, and uncached-minus was given") if down else None
    if [each for each in case.dump.complaints if each.kind not in (Kind.SANITY, Kind.MTRR_INCONSISTENT)]:
        return None
    types = case.dump.pat.types
    if not case.says(_ASKS_WC) or (types and MemType.WC not in types):
        return None
    if case.about.entries and all(each.memtype is MemType.UC_MINUS for each in case.about.entries):
        return Hit("write-combining was asked for, and the list has the memory as uncached-minus")
    return None


def _insert_pfn(case: BugCase) -> Hit | None:
    if case.dump.complaints or not case.says(r"\bvmf?_insert_(?:pfn|mixed)\w*"):
        return None
    if case.says(r"\bwrite-combin\w*|\bwc\b") and case.says(r"\buncached\b|\buc\b"):
        return Hit("pages are inserted one by one, which reserves nothing, and two types meet")
    return None


def _pieces_of_one(case: BugCase) -> Hit | None:
    fails = r"\bmmap(?:64)?(?:\(\))?\b.{0,60}\b(?:fail\w*|EINVAL|invalid argument)"
    if case.dump.complaints or not case.says(fails):
        return None
    if case.says(r"\bhfi1\w*|\bpsm2\b|\bvm_(?:start|end)\s*[-+]?=(?!=)"):
        return Hit(
            "mmap() of a driver that moves the bounds of its VMA to one piece of memory after the other"
        )
    return None


def _set_memory_alias(case: BugCase) -> Hit | None:
    if case.dump.complaints or not case.says(r"\bset_memory_(?:uc|wc)\b|\bset_pages_array_(?:uc|wc)\b"):
        return None
    if case.says(r"\b(?:still|stays?|remains?|left|keeps?)\b.{0,60}\b(?:write-back|cached|wb)\b"):
        return Hit("the kernel's mapping was changed, and a process's mapping of the same RAM wasn't")
    return None


def _ioremap_uc(case: BugCase) -> Hit | None:
    if case.dump.complaints or not case.says(r"\bioremap_uc\b"):
        return None
    held = case.about.entries and all(each.memtype is MemType.WB for each in case.about.entries)
    return Hit("ioremap_uc() was asked for, and the memory is write-back") if held else None


def _mprotect(case: BugCase) -> Hit | None:
    refused = case.kind(Kind.USER_REFUSED)
    if (
        refused is not None
        and refused.held
        and not (fork_only(refused) and refused.held[0] in (MemType.WT, MemType.WP))
    ):
        return None
    if case.dump.of(Kind.FREEING_INVALID) or not case.says(r"\bmprotect\b"):
        return None
    if refused is not None or case.says(
        r"\b(?:type|pat|caching|write-through|write-combining)\b.{0,60}\b(?:lost|loses|changed?|changes"
        r"|drops?|becomes?|turns?)\b"
    ):
        return Hit("mprotect() changed the type of a mapping")
    return None


def _neighbour(case: BugCase) -> Hit | None:
    kernel = case.dump.kernel
    if case.says(_BISECTED) and case.says(r"\bslow|\bperformance\b|\bdegrad|\bregression\b|\bfirst bad\b"):
        return Hit("the commit that brought it (8d04a5f97a5f) is named as the one that made something slower")
    if kernel is None or not kernel.release.startswith(("5.5.0-rc", "5.5-rc")):
        return None
    return Hit("memory next to an uncached range is uncached") if case.says(r"\bslow|\buncached") else None


#: "x86/mm/pat: Convert the PAT tree to a generic interval tree"; no release has it without its fix.
_BISECTED: Final = r"\b8d04a5f97a(?:5[0-9a-f]{0,29})?\b"


def _agp(case: BugCase) -> Hit | None:
    # A screen that is corrupt has many reasons, of which a message may name one.
    if case.dump.complaints or not (case.says(r"\bAGP\b") and case.says(r"\bcorrupt")):
        return None
    return Hit("RAM of the AGP aperture is corrupt")


TOLD_RULES: Final[dict[str, Rule]] = {
    "agp-2002": _agp,
    "insert-pfn-untracked": _insert_pfn,
    "ioremap-uc": _ioremap_uc,
    "mprotect-pat-bit": _mprotect,
    "neighbour-decides": _neighbour,
    "nopat-devmem": _nopat_devmem,
    "pieces-of-one-mapping": _pieces_of_one,
    "set-memory-alias": _set_memory_alias,
    "silent-downgrade": _silent,
}
