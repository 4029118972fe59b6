"""The meaning of requests to the MTRRs that failed: which rule, how dangerous, what to do.

Sentences are for somebody who isn't an expert. What they say of the report comes from its facts; what they
say of Linux is named with file and function.
"""

from __future__ import annotations

import re
from typing import Final

from pytest_memtype.dumps.facts import Dump, Kind, Mtrrs, Register, Span
from pytest_memtype.errors import UsageError
from pytest_memtype.explain import linux_source
from pytest_memtype.explain.imported_layout import layout_of
from pytest_memtype.explain.story import AS_IT_IS, Case, Story, Teller, said, where
from pytest_memtype.explain.subject import Subject
from pytest_memtype.x86.memtype import MemType

_SLOW: Final = "no: the memory is slower than the driver wished"


def _cleanup(case: Case, does: str) -> tuple[str, ...]:
    """The advice to have the registers laid out anew, where that helps.

    mtrr_cleanup() came with 2.6.27, and its choice of sizes by hand, too (95ffa2438d0e).

    :param case: The report.
    :param does: What it may do for the request, behind a comma.
    """
    if linux_source.is_newer(case.age, 2, 6, 27) is False or case.dump.of(Kind.MTRR_CLEANED):
        return ()
    failed = case.dump.of(Kind.MTRR_CLEANUP_FAILED)
    if failed:
        return (
            f"mtrr_cleanup has found no other layout by itself (line {failed[0].line}); mtrr_gran_size= and "
            f"mtrr_chunk_size= on the kernel's command line choose its sizes",
        )
    asked_for = "enable_mtrr_cleanup" in (case.dump.command_line or "").split()
    if asked_for or not _may_be_cleaned(case.dump.own_mtrr):
        return ()
    return (
        "enable_mtrr_cleanup on the kernel's command line has Linux try to lay the registers out anew at "
        f"boot, with as few as will do, {does}",
    )


def _may_be_cleaned(listing: Mtrrs | None) -> bool:
    """Whether mtrr_cleanup() may do anything about some registers, as far as the text has them.

    It wants an uncachable default type (mtrr_cleanup()), and a register that is uncachable while all others
    are write-back (mtrr_need_cleanup()).

    :param listing: The registers; None where the text has none.
    """
    if listing is None:
        return True
    if listing.default not in (None, MemType.UC):
        return False
    types = {each.memtype for each in listing.variable}
    if listing.source == "/proc/mtrr":
        # A driver or the X server may have added it since the boot.
        types.discard(MemType.WC)
    return (
        not listing.complete or None in types or (MemType.UC in types and types <= {MemType.UC, MemType.WB})
    )


def _mtrr_mismatch(case: Case) -> Story:
    held = case.main.held[0] if case.main.held else None
    decides, others = _by_registers(case.dump, case.about, held)
    register = ""
    advice: tuple[str, ...] = (
        *_cleanup(case, "so that this memory may lie in none"),
        "drivers of today use ioremap_wc() and the PAT, and need no MTRR (arch_phys_wc_add() does nothing "
        "then)",
        "a firmware that covers device memory with a write-back register, and cuts it out with an "
        "uncachable one, leaves no room for write-combining",
    )
    if decides is not None and case.about.span is not None:
        unlike = _unlike_its_mask(case.dump, decides, case.about.span)
        register = f". That register is {decides.number}{unlike}{others}"
        if unlike:
            mend = f"the firmware should be mended, which gives register {decides.number} a mask with holes"
            advice = (mend, advice[-2])
    return Story(
        f"a variable MTRR was to make {where(case.about.span)} {said(case.main.asked)}, and another "
        f"register calls that {said(held)}: it was refused, and the memory stays as it is{register}",
        _rule_of_types(case),
        _SLOW,
        advice,
    )


def _rule_of_types(case: Case) -> str:
    """The rule that refused a register within one of another type.

    Before types_compatible(), as in 2.4.20's arch/i386/kernel/mtrr.c, the new register had to be the
    uncachable one. So the line itself may show that the older rule was asked.
    """
    if linux_source.is_of_the_older_rule(case.main) or linux_source.is_newer(case.age, 2, 6, 20) is False:
        return (
            "arch/i386/kernel/cpu/mtrr/main.c (2.4: arch/i386/kernel/mtrr.c), mtrr_add_page(), before "
            "2.6.20: a register may lie within another of a different type only if the new one is "
            "uncachable, and the first that it lies in decides"
        )
    return (
        f"{linux_source.in_mtrr(case.age, 'mtrr_add_page')}: a register may lie within another of a "
        "different type only if one of the two is uncachable, or they are write-through and write-back, "
        "and the first that doesn't go with it so decides"
    )


def _by_registers(dump: Dump, about: Subject, held: MemType | None) -> tuple[Register | None, str]:
    """The register that Linux refused the request for, and what others say of the memory, in words.

    :param dump: What was read of the report.
    :param about: What it is about.
    :param held: The type of that register.
    """
    listing = dump.own_mtrr
    if listing is None or not listing.complete or about.span is None:
        return None, ""
    inside = [
        each
        for each in listing.variable
        if each.size and each.base <= about.span.start and about.span.end < each.base + each.size
    ]
    first = next((each for each in inside if each.memtype is held), None)
    others = [each for each in inside if each is not first and each.memtype is not None]
    if first is None or not others:
        return first, ""
    makes = " and ".join(f"register {each.number} makes it {said(each.memtype)}" for each in others)
    return first, f", while {makes}"


def _unlike_its_mask(dump: Dump, register: Register, span: Span) -> str:
    """A remark where Linux takes a register for a range that its mask doesn't have.

    generic_get_mtrr() makes the size of the mask's complement, and mtrr_add_page() compares with base and
    size alone.

    :param dump: What was read of the report.
    :param register: The register, as ``/proc/mtrr`` has it.
    :param span: Memory that lies in it for Linux.
    """
    size = register.size or 0
    try:
        ranges = layout_of(dump).layout.ranges
    except UsageError:
        return ""
    if dump.own_mtrr is None or len(ranges) != len(dump.own_mtrr.variable):
        return ""
    real = ranges[dump.own_mtrr.variable.index(register)]
    decides = ~(real.size - 1 | real.ignored_bits)
    if not size & (size - 1) or not ((span.start ^ real.base) | (span.end ^ real.base)) & decides:
        return ""
    taken = where(Span(register.base, register.base + size - 1))
    covered = where(Span(real.base, real.base + real.size - 1))
    return (
        f", which Linux takes for {taken}, as it makes one range of any mask. But no range has that size: "
        f"the mask lacks address bits of the CPU, and covers {covered}, the same again at addresses that "
        "differ in those bits alone, and not this memory"
    )


def _mtrr_overlap(case: Case) -> Story:
    span, other = case.main.span, case.main.other
    encloses = span is not None and other is not None and span.contains(other)
    how = (
        f"which has all of {where(other)} of another register in it, and more"
        if encloses
        else f"which overlaps {where(other)} of another register in part"
    )
    return Story(
        f"a variable MTRR was to cover {where(case.about.span)}, {how}: it was refused",
        # types_compatible() and the case of a region that encloses another: 2.6.20.
        f"{linux_source.in_mtrr(case.age, 'mtrr_add_page')}: a register may not reach beyond one that it "
        "overlaps. Since 2.6.20 it may if it covers all of that, and both have one type, or one of the two "
        "is uncachable, or they are write-through and write-back",
        AS_IT_IS,
        ("drivers of today use ioremap_wc() and the PAT, and need no MTRR",),
    )


def _mtrr_full(case: Case) -> Story:
    return Story(
        "a variable MTRR was asked for, and all of the CPU's are in use",
        linux_source.in_mtrr(case.age, "mtrr_add_page"),
        AS_IT_IS,
        (
            *_cleanup(case, "which may free some"),
            "drivers of today use the PAT, and need no MTRR",
        ),
    )


def _mtrr_unaligned(case: Case) -> Story:
    raw = case.main.raw
    if "4 MiB" in raw:
        return Story(
            f"a variable MTRR was refused: {raw}. An early Pentium Pro's registers need that",
            _place_of_validation(case),
            AS_IT_IS,
        )
    if "boundary" in raw:
        return Story(
            f"a variable MTRR was to cover {where(case.about.span)}, which no register can: a size that is a "
            "power of two, and a base that is a multiple of it. It was refused",
            _place_of_validation(case),
            AS_IT_IS,
        )
    return Story(
        f"a variable MTRR was to be added or given back for {where(case.about.span)}, which isn't whole "
        "pages (4 KiB): it was refused",
        f"{linux_source.in_mtrr(case.age, 'mtrr_add')} and mtrr_del(): base and size are whole pages",
        AS_IT_IS,
    )


def _place_of_validation(case: Case) -> str:
    """The place of the checks that Intel's MTRRs need, and others don't."""
    return linux_source.in_generic(case.age, "generic_validate_add_page", in_one_file="mtrr_add_page")


def _mtrr_refused(case: Case) -> Story:
    of_intel = any(each in case.main.raw for each in ("writable mtrr", "below 1 MiB"))
    return Story(
        f"a variable MTRR was refused: {case.main.raw}",
        _place_of_validation(case) if of_intel else linux_source.in_mtrr(case.age, "mtrr_add_page"),
        AS_IT_IS,
    )


def _no_wc(case: Case) -> Story:
    lines = case.dump.of(Kind.MTRR_NO_WC)
    chipset = next((each.raw for each in lines if "detected" in each.raw), None)
    # have_wrcomb() looks at the chipset first, and asks the CPU if that isn't on its list.
    if chipset is not None:
        name = chipset.removeprefix("mtrr: ").partition(" detected")[0]
        return Story(
            f"a write-combining MTRR was refused, as the chipset is one that Linux doesn't trust with it "
            f"({name}). It isn't for want of a type in the CPU, whatever the line about the processor says",
            f"{linux_source.in_mtrr(case.age, 'have_wrcomb')}: it has a list of chipsets that go wrong with "
            "write-combining",
            _SLOW,
        )
    return Story(
        "a write-combining MTRR was refused: the CPU, as this kernel sees it, has no such type for its MTRRs",
        f"{linux_source.in_mtrr(case.age, 'have_wrcomb')}: bit 10 (WC) of IA32_MTRRCAP",
        _SLOW,
        ("drivers of today use ioremap_wc() and the PAT, and need no MTRR",),
    )


def _not_removed(case: Case) -> Story:
    if case.about.span is not None:
        what = f"the MTRR of {where(case.about.span)} was to be given back, and no register has that range"
    else:
        what = f"an MTRR was to be given back, and isn't in use: {case.main.raw}"
    return Story(
        f"{what}. Nothing was changed",
        linux_source.in_mtrr(case.age, "mtrr_del_page"),
        "no: the registers stay as they are. Whoever gives it back may never have got it",
    )


_LOOK: Final = "look at /proc/mtrr: a free register is needed, and no other type that the range lies in"
_POINTERS: Final = re.compile(r"\[(?:[0-9a-f]{8}){1,2}-(?:[0-9a-f]{8}){1,2}\]", re.I)


def _wc_failed(case: Case) -> Story:
    if case.main.errno is not None and case.dump.kernel is None:
        # Linux' line has no number; FreeBSD's drivers are Linux', its MTRRs aren't.
        return Story(
            f"a driver got no write-combining MTRR for {where(case.about.span)}: error {case.main.errno}. "
            "With the number the line is FreeBSD's (linuxkpi), of which Linux' rules say nothing",
            "",
            "no: without a PAT writes to that memory are slow",
        )
    memory = f" for {where(case.about.span)}"
    if case.about.span is None and _POINTERS.search(case.main.raw):
        # arch_phys_wc_add() prints %p; "printk: hash addresses printed with %p", ad67b74d2469, 4.15.
        memory = ". The numbers in its line are no addresses but hashes, as Linux prints pointers since 4.15"
    if "write-combining range" in case.main.raw:
        return Story(
            f"the X server got no write-combining MTRR{memory}; its line doesn't say why, the kernel's log "
            "may",
            f"{linux_source.in_mtrr(case.age, 'mtrr_add_page')}, by way of /proc/mtrr",
            "no: without a PAT writes to that memory are slow",
            (_LOOK,),
        )
    return Story(
        f"a driver got no write-combining MTRR{memory}; the text doesn't say why",
        f"{linux_source.in_mtrr(case.age, 'mtrr_add_page')}, since 3.11 by way of arch_phys_wc_add()",
        "no: without a PAT writes to that memory are slow",
        (_LOOK,),
    )


REQUEST_STORIES: Final[dict[Kind, Teller]] = {
    Kind.MTRR_MISMATCH: _mtrr_mismatch,
    Kind.MTRR_OVERLAP: _mtrr_overlap,
    Kind.MTRR_FULL: _mtrr_full,
    Kind.MTRR_UNALIGNED: _mtrr_unaligned,
    Kind.MTRR_REFUSED: _mtrr_refused,
    Kind.MTRR_NO_WC: _no_wc,
    Kind.MTRR_NOT_REMOVED: _not_removed,
    Kind.MTRR_WC_FAILED: _wc_failed,
}
