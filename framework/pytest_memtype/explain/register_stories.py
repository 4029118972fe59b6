"""The meaning of what is said of MTRRs and the PAT at boot: which rule, how dangerous, what to do.

Sentences are for somebody who isn't an expert. What they say of the report comes from its facts; what they
say of Linux is named with file and function.
"""

from __future__ import annotations

import re
from typing import Final

from pytest_memtype.dumps.facts import Kernel, Kind
from pytest_memtype.explain import linux_source
from pytest_memtype.explain.bug_versions import UPDATES
from pytest_memtype.explain.story import Case, Story, Teller, said, where
from pytest_memtype.spec.linux_versions import Behaviour, Topic, behaviours
from pytest_memtype.x86.memtype import MemType


def _inconsistent(case: Case) -> Story:
    parts = [
        each.raw.split("inconsistent ", 1)[-1].removesuffix(" settings")
        for each in case.dump.of(Kind.MTRR_INCONSISTENT)
    ]
    return Story(
        "firmware set the MTRRs of the boot CPU only, or of the CPUs differently; Linux copied the boot "
        f"CPU's to the others ({', '.join(dict.fromkeys(parts))}). Seen on every boot of QEMU's TCG with "
        "two CPUs as well",
        "arch/x86/kernel/cpu/mtrr/generic.c, mtrr_state_warn(): each CPU gets the boot CPU's registers, "
        "whatever it had",
        "no more, once Linux has corrected it; before, the CPUs disagreed about the type of memory, and "
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


def _loses_ram(case: Case) -> Story:
    lost = re.search(r"losing (\d+) ?MB", case.main.raw)
    much = f"{lost[1]} MB of RAM" if lost is not None else "some RAM"
    return Story(
        f"{much} can't be used: the MTRRs don't make it write-back, so Linux gives it up",
        "arch/x86/kernel/cpu/mtrr/cleanup.c, mtrr_trim_uncached_memory()",
        f"no data is at risk, but {much} is lost to the machine",
        (
            "the firmware should be mended: an update, or its settings for memory above 4 GiB and for MTRRs",
            "disable_mtrr_trim on the kernel's command line keeps the RAM, uncached, which may make the "
            "machine very slow",
        ),
    )


def _firmware(case: Case) -> Story:
    what = {
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
    newer = False if case.dump.of(Kind.PAT_SKIPPED) else linux_source.is_newer(case.age, 6, 2)
    off = next(iter(case.dump.of(Kind.PAT_ABSENT, Kind.PAT_DISABLED)), None)
    given = ""
    if case.about.span is not None and case.about.granted is not None:
        given = f": {where(case.about.span)} is {said(case.about.granted)}"
    pat = {
        True: "the PAT is used all the same",
        False: f"the PAT isn't set up either: {_pat_as_it_was(case.dump.pat.types)}",
        None: "before 6.2 the PAT isn't set up then either",
    }[newer]
    if off is not None:
        pat = f"the PAT isn't used either: {off.raw}"
    writeback = ""
    if off is None and _write_back_is_uncached(case.dump.kernel):
        writeback = (
            ", and who asks for write-back gets uncached (UC-), as no MTRR says that the memory may be cached"
        )
    # Where the PAT was left with write-combining, Linux hands it out, and keeps no list of it.
    slow = off is None and (newer is not False or MemType.WC not in case.dump.pat.types)
    # xen_init_capabilities() of arch/x86/xen/enlighten_pv.c clears X86_FEATURE_MTRR, as Xen has them.
    xen = (case.dump.hypervisor or "").startswith("Xen")
    whose = (
        "Xen has the MTRRs, and this kernel doesn't see them"
        if xen
        else "the MTRRs are off, or the CPU has none"
    )
    return Story(
        f"{whose}; {pat}{writeback}{given}",
        f"{linux_source.in_memtype(case.age, 'pat_x_mtrr_type')}: a request for write-back is only "
        "granted where the MTRRs say write-back"
        if writeback
        else linux_source.in_mtrr(case.age, "mtrr_bp_init"),
        "no: memory is slow, and not wrong" if slow else _UNCHECKED,
        ()
        if xen
        else (
            "whoever makes the machine (the VMM) can turn the MTRRs on with write-back for a default: "
            "IA32_MTRR_DEF_TYPE = 0x806",
        ),
    )


_AT_RESET: Final = (MemType.WB, MemType.WT, MemType.UC_MINUS, MemType.UC) * 2
"""IA32_PAT at reset (Intel SDM vol. 3, "Page Attribute Table")."""


def _pat_as_it_was(types: tuple[MemType, ...]) -> str:
    """The PAT that Linux found and left, by its line "Configuration" where the text has it."""
    if types in ((), _AT_RESET):
        return "it is as at reset, without write-combining"
    slots = [str(slot) for slot, each in enumerate(types) if each is MemType.WC]
    has = f"with write-combining in slot {' and '.join(slots)}" if slots else "without write-combining"
    return f"it is as the firmware or the hypervisor left it, {' '.join(map(str, types))}, {has}"


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
        linux_source.in_memtype(case.age, "pat_disable"),
        _UNCHECKED,
    )


REGISTER_STORIES: Final[dict[Kind, Story | Teller]] = {
    Kind.MTRR_INCONSISTENT: _inconsistent,
    Kind.MTRR_BAD_MASK: _firmware,
    Kind.MTRR_CLEANUP_FAILED: _cleanup_failed,
    Kind.MTRR_CLEANED: _CLEANED,
    Kind.MTRR_LOSES_RAM: _loses_ram,
    Kind.MTRR_BLANK: _firmware,
    Kind.MTRR_OFF: _mtrr_off,
    Kind.PAT_SKIPPED: _mtrr_off,
    Kind.PAT_ABSENT: _pat_off,
    Kind.PAT_DISABLED: _pat_off,
}
