"""The meaning of complaints about MTRRs and the PAT: which rule, how dangerous, what to do.

Sentences are for somebody who isn't an expert. What they say of the report comes from its facts; what they
say of Linux is named with file and function.
"""

from __future__ import annotations

from typing import Final

from pytest_memtype.dumps.facts import Dump, Kernel, Kind
from pytest_memtype.explain import linux_source
from pytest_memtype.explain.known_bugs import UPDATES
from pytest_memtype.explain.story import AS_IT_IS, Case, Story, Teller, said, where
from pytest_memtype.explain.subject import Subject
from pytest_memtype.spec.linux_versions import Behaviour, Topic, behaviours
from pytest_memtype.x86.memtype import MemType


def _mtrr_mismatch(case: Case) -> Story:
    held = case.main.held[0] if case.main.held else None
    return Story(
        f"a variable MTRR was to make {where(case.about.span)} {said(case.main.asked)}, and another "
        f"register calls that {said(held)}: it was refused, and the memory stays as it "
        f"is{_by_registers(case.dump, case.about, held)}",
        "arch/x86/kernel/cpu/mtrr/mtrr.c, mtrr_add_page(): a register may lie within another of a "
        "different type only if one of the two is uncachable, and the first that it lies in decides",
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
    return Story(
        f"a variable MTRR was to cover {where(case.about.span)}, which overlaps {where(case.main.other)} of "
        "another register in part: it was refused",
        "arch/x86/kernel/cpu/mtrr/mtrr.c, mtrr_add_page()",
        AS_IT_IS,
        ("drivers of today use ioremap_wc() and the PAT, and need no MTRR",),
    )


_MTRR_FULL: Final = Story(
    "a variable MTRR was asked for, and all of the CPU's are in use",
    "arch/x86/kernel/cpu/mtrr/mtrr.c, mtrr_add_page()",
    AS_IT_IS,
    (
        "enable_mtrr_cleanup on the kernel's command line may free registers",
        "drivers of today use the PAT, and need no MTRR",
    ),
)


def _mtrr_refused(case: Case) -> Story:
    return Story(
        f"a request to the MTRRs was refused: {case.main.raw}",
        "arch/x86/kernel/cpu/mtrr/mtrr.c, mtrr_check() and mtrr_add_page(): base and size are whole pages, "
        "the size is a power of two, the base a multiple of it",
        AS_IT_IS,
    )


def _wc_failed(case: Case) -> Story:
    if case.main.errno is not None and case.dump.kernel is None:
        # Linux' line has no number; FreeBSD's drivers are Linux', its MTRRs aren't.
        return Story(
            f"a driver got no write-combining MTRR for {where(case.about.span)}: error {case.main.errno}. "
            "With the number the line is FreeBSD's (linuxkpi), of which Linux' rules say nothing",
            "",
            "no: without a PAT writes to that memory are slow",
        )
    return Story(
        f"a driver got no write-combining MTRR for {where(case.about.span)}; the text doesn't say why",
        "arch/x86/kernel/cpu/mtrr/mtrr.c, arch_phys_wc_add() and mtrr_add_page()",
        "no: without a PAT writes to that memory are slow",
        ("look at /proc/mtrr: a free register is needed, and no other type that the range lies in",),
    )


def _inconsistent(case: Case) -> Story:
    parts = [
        each.raw.split("inconsistent ", 1)[-1].removesuffix(" settings")
        for each in case.dump.of(Kind.MTRR_INCONSISTENT)
    ]
    # Its mtrr_state_warn() has the same words, and prints the registers below them (as of 4.17).
    xen = any(each.source == "Xen" for each in case.dump.mtrrs)
    who, file = ("Xen", "xen/arch/x86/cpu/mtrr") if xen else ("Linux", "arch/x86/kernel/cpu/mtrr")
    return Story(
        f"firmware set the MTRRs of the boot CPU only, or of the CPUs differently; {who} copied the boot "
        f"CPU's to the others ({', '.join(dict.fromkeys(parts))}). Seen on every boot of QEMU's TCG with "
        "two CPUs as well",
        f"{file}/generic.c, mtrr_state_warn(): each CPU gets the boot CPU's registers, whatever it had",
        f"no more, once {who} has corrected it; before, the CPUs disagreed about the type of memory, and "
        "firmware code that runs later (SMM, resume) may set them so again",
        ("the firmware should set all CPUs alike",),
    )


def _cleanup_failed(case: Case) -> Story:
    listing = case.dump.mtrr
    count = len(listing.variable) if listing is not None and listing.complete else 0
    have = f" The firmware uses {count} of them." if count else ""
    return Story(
        "mtrr_cleanup found no other layout of the registers that covers the same RAM and leaves registers "
        f"free: the firmware's stays.{have}",
        "arch/x86/kernel/cpu/mtrr/cleanup.c, mtrr_cleanup(): it tries sizes of granules and chunks, and "
        "keeps mtrr_spare_reg_nr registers free",
        "no: the registers are as before. A driver that wants a write-combining MTRR may get none",
        (
            "mtrr_gran_size= and mtrr_chunk_size= on the kernel's command line choose the sizes; "
            "mtrr_spare_reg_nr= how many stay free",
            "disable_mtrr_cleanup has it not tried; drivers of today use the PAT, and need no MTRR",
        ),
    )


_CLEANED: Final = Story(
    "mtrr_cleanup laid the registers out anew, so that fewer are in use",
    "arch/x86/kernel/cpu/mtrr/cleanup.c, mtrr_cleanup()",
    'no, if no RAM is lost: the line "lose cover RAM" says how much',
)


def _firmware(case: Case) -> Story:
    what = {
        Kind.MTRR_LOSES_RAM: "the MTRRs don't make all RAM write-back; Linux gives up the rest",
        Kind.MTRR_BLANK: "no variable MTRR is set: the default type decides on all memory",
        Kind.MTRR_BAD_MASK: "a mask of the firmware's lacks the CPU's highest address bits; Linux adds them",
    }[case.main.kind]
    return Story(
        what,
        "arch/x86/kernel/cpu/mtrr/cleanup.c and generic.c",
        "no: Linux has dealt with it",
        ("the firmware should be mended",),
    )


_UNCHECKED: Final = "maybe: nobody checks that mappings of one page have one type"


def _mtrr_off(case: Case) -> Story:
    newer = False if case.dump.of(Kind.PAT_SKIPPED) else linux_source.is_newer(case.dump.kernel, 6, 2)
    off = next(iter(case.dump.of(Kind.PAT_ABSENT, Kind.PAT_DISABLED)), None)
    given = ""
    if case.about.span is not None and case.about.granted is not None:
        given = f": {where(case.about.span)} is {said(case.about.granted)}"
    pat = {
        True: "the PAT is used all the same",
        False: "the PAT isn't set up either: it is as at reset, without write-combining",
        None: "before 6.2 the PAT isn't set up then either",
    }[newer]
    if off is not None:
        pat = f"the PAT isn't used either: {off.raw}"
    writeback = ""
    if off is None and _write_back_is_uncached(case.dump.kernel):
        writeback = (
            ", and who asks for write-back gets uncached (UC-), as no MTRR says that the memory may be cached"
        )
    return Story(
        f"the MTRRs are off, or the CPU has none; {pat}{writeback}{given}",
        f"{linux_source.in_memtype(case.dump.kernel, 'pat_x_mtrr_type')}: a request for write-back is only "
        "granted where the MTRRs say write-back"
        if writeback
        else "arch/x86/kernel/cpu/mtrr/mtrr.c, mtrr_bp_init()",
        "no: memory is slow, and not wrong" if off is None else _UNCHECKED,
        (
            "whoever makes the machine (the VMM) can turn the MTRRs on with write-back for a default: "
            "IA32_MTRR_DEF_TYPE = 0x806",
        ),
    )


def _write_back_is_uncached(kernel: Kernel | None) -> bool:
    """Whether a kernel is known to give UC- for write-back where there are no MTRRs."""
    if kernel is None:
        return False
    major, minor, patch = kernel.version
    possible = [(major, minor, each) for each in ([patch] if kernel.exact else range(UPDATES))]
    answers = {behaviours(each)[Topic.NO_MTRR_WRITE_BACK] for each in possible}
    return answers == {Behaviour.UNCACHED_MINUS}


def _pat_off(case: Case) -> Story:
    return Story(
        f"the PAT isn't used: {case.main.raw}. There is no write-combining by page table then, and Linux "
        "keeps no list of reservations",
        linux_source.in_memtype(case.dump.kernel, "pat_disable"),
        _UNCHECKED,
    )


REGISTER_STORIES: Final[dict[Kind, Story | Teller]] = {
    Kind.MTRR_MISMATCH: _mtrr_mismatch,
    Kind.MTRR_OVERLAP: _mtrr_overlap,
    Kind.MTRR_FULL: _MTRR_FULL,
    Kind.MTRR_UNALIGNED: _mtrr_refused,
    Kind.MTRR_REFUSED: _mtrr_refused,
    Kind.MTRR_WC_FAILED: _wc_failed,
    Kind.MTRR_INCONSISTENT: _inconsistent,
    Kind.MTRR_BAD_MASK: _firmware,
    Kind.MTRR_CLEANUP_FAILED: _cleanup_failed,
    Kind.MTRR_CLEANED: _CLEANED,
    Kind.MTRR_LOSES_RAM: _firmware,
    Kind.MTRR_BLANK: _firmware,
    Kind.MTRR_OFF: _mtrr_off,
    Kind.PAT_SKIPPED: _mtrr_off,
    Kind.PAT_ABSENT: _pat_off,
    Kind.PAT_DISABLED: _pat_off,
}
