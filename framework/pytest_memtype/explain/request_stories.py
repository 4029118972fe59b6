"""The meaning of requests to the MTRRs that failed: which rule, how dangerous, what to do.

Sentences are for somebody who isn't an expert. What they say of the report comes from its facts; what they
say of Linux is named with file and function.
"""

from __future__ import annotations

import re
from typing import Final

from pytest_memtype.dumps.facts import Dump, Kind
from pytest_memtype.explain import linux_source
from pytest_memtype.explain.story import AS_IT_IS, Case, Story, Teller, said, where
from pytest_memtype.explain.subject import Subject
from pytest_memtype.x86.memtype import MemType


def _mtrr_mismatch(case: Case) -> Story:
    held = case.main.held[0] if case.main.held else None
    return Story(
        f"a variable MTRR was to make {where(case.about.span)} {said(case.main.asked)}, and another "
        f"register calls that {said(held)}: it was refused, and the memory stays as it "
        f"is{_by_registers(case.dump, case.about, held)}",
        _rule_of_types(case, held),
        "no: the memory is slower than the driver wished",
        (
            "enable_mtrr_cleanup on the kernel's command line lays the registers out anew, without large "
            "ranges that holes are cut out of",
            "drivers of today use ioremap_wc() and the PAT, and need no MTRR (arch_phys_wc_add() does "
            "nothing then)",
            "a firmware that covers device memory with a write-back register, and cuts it out with an "
            "uncachable one, leaves no room for write-combining",
        ),
    )


def _rule_of_types(case: Case, held: MemType | None) -> str:
    """The rule that refused a register within one of another type.

    types_compatible() is of November 2006 ("x86: fix MTRR code"), and came with 2.6.20. Before, as in
    2.4.20's arch/i386/kernel/mtrr.c, the new register had to be the uncachable one. So the line itself shows
    where the older rule was asked.
    """
    shown = held is MemType.UC and case.main.asked not in (None, MemType.UC)
    if shown or linux_source.is_newer(case.age, 2, 6, 20) is False:
        return (
            "arch/i386/kernel/cpu/mtrr/main.c (2.4: arch/i386/kernel/mtrr.c), mtrr_add_page(), before "
            "2.6.20: a register may lie within another of a different type only if the new one is "
            "uncachable, and the first that it lies in decides"
        )
    return (
        f"{linux_source.in_mtrr(case.age, 'mtrr_add_page')}: a register may lie within another of a "
        "different type only if one of the two is uncachable, or they are write-through and write-back, "
        "and the first that it lies in decides"
    )


def _by_registers(dump: Dump, about: Subject, held: MemType | None) -> str:
    listing = dump.mtrr
    if listing is None or not listing.complete or about.span is None:
        return ""
    inside = [
        each
        for each in listing.variable
        if each.size and each.base <= about.span.start and about.span.end < each.base + each.size
    ]
    first = next((each for each in inside if each.memtype is held), None)
    others = [each for each in inside if each is not first and each.memtype is not None]
    if first is None:
        return ""
    text = f". That register is {first.number}"
    if others:
        text += ", while " + " and ".join(
            f"register {each.number} makes it {said(each.memtype)}" for each in others
        )
    return text


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
            "enable_mtrr_cleanup on the kernel's command line may free registers",
            "drivers of today use the PAT, and need no MTRR",
        ),
    )


def _mtrr_refused(case: Case) -> Story:
    return Story(
        f"a request to the MTRRs was refused: {case.main.raw}",
        f"{linux_source.in_mtrr(case.age, 'mtrr_check')} and mtrr_add_page(): base and size are whole pages, "
        "the size is a power of two, the base a multiple of it",
        AS_IT_IS,
    )


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
    return Story(
        f"a driver got no write-combining MTRR{memory}; the text doesn't say why",
        f"{linux_source.in_mtrr(case.age, 'arch_phys_wc_add')} and mtrr_add_page()",
        "no: without a PAT writes to that memory are slow",
        ("look at /proc/mtrr: a free register is needed, and no other type that the range lies in",),
    )


REQUEST_STORIES: Final[dict[Kind, Story | Teller]] = {
    Kind.MTRR_MISMATCH: _mtrr_mismatch,
    Kind.MTRR_OVERLAP: _mtrr_overlap,
    Kind.MTRR_FULL: _mtrr_full,
    Kind.MTRR_UNALIGNED: _mtrr_refused,
    Kind.MTRR_REFUSED: _mtrr_refused,
    Kind.MTRR_WC_FAILED: _wc_failed,
}
