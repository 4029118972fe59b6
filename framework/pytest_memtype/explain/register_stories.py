"""The meaning of what is said of MTRRs and the PAT at boot: which rule, how dangerous, what to do.

Sentences are for somebody who isn't an expert. What they say of the report comes from its facts; what they
say of Linux is named with file and function.
"""

from __future__ import annotations

import re
from typing import Final

from pytest_memtype.dumps.facts import Dump, Kind, Mtrrs, Span
from pytest_memtype.dumps.mtrr_cleanup import RESULT
from pytest_memtype.explain import linux_source
from pytest_memtype.explain.bug_versions import UPDATES
from pytest_memtype.explain.linux_source import Age
from pytest_memtype.explain.story import NO_SIGN, Case, Story, Teller, said, where
from pytest_memtype.spec.linux_versions import Behaviour, Topic, behaviours
from pytest_memtype.x86.memtype import MemType


def _inconsistent(case: Case) -> Story:
    parts = [
        each.raw.split("inconsistent ", 1)[-1].removesuffix(" settings")
        for each in case.dump.of(Kind.MTRR_INCONSISTENT)
    ]
    # Its mtrr_state_warn() has the same words, and prints the registers below them (as of 4.17).
    xen = case.main.of_xen or any(each.source == "Xen" for each in case.dump.mtrrs)
    who, place = "Linux", linux_source.in_generic(case.age, "mtrr_state_warn")
    if xen:
        who, place = "Xen", "xen/arch/x86/cpu/mtrr/generic.c, mtrr_state_warn()"
    return Story(
        f"firmware set the MTRRs of the boot CPU only, or of the CPUs differently; {who} copied the boot "
        f"CPU's to the others ({', '.join(dict.fromkeys(parts))}). Seen on every boot of QEMU's TCG with "
        "two CPUs as well",
        f"{place}: each CPU gets the boot CPU's registers, whatever it had",
        f"no more, once {who} has corrected it; before, the CPUs disagreed about the type of memory, and "
        "firmware code that runs later (SMM, resume) may set them so again",
        ("the firmware should set all CPUs alike",),
    )


def _cleanup_failed(case: Case) -> Story:
    listing = case.dump.own_mtrr
    count = len(listing.variable) if listing is not None and listing.complete else 0
    have = f" The firmware uses {count} of them." if count else ""
    return Story(
        "mtrr_cleanup found no other layout of the registers that covers the same RAM and leaves registers "
        f"free: the firmware's stays.{have}",
        f"{linux_source.in_cleanup(case.age, 'mtrr_cleanup')}: it tries sizes of granules and chunks, and "
        "keeps mtrr_spare_reg_nr registers free",
        "no: the registers are as before. A driver that wants a write-combining MTRR may get none",
        (
            "mtrr_gran_size= and mtrr_chunk_size= on the kernel's command line choose the sizes; "
            "mtrr_spare_reg_nr= how many stay free",
            "disable_mtrr_cleanup has it not tried; drivers of today use the PAT, and need no MTRR",
        ),
    )


#: So many ranges are told.
_MOST: Final = 4


def _cleaned(case: Case) -> Story:
    place = linux_source.in_cleanup(case.age, "mtrr_cleanup")
    result = RESULT.search(case.main.raw)
    if result is None:
        return Story(
            "mtrr_cleanup laid the registers out anew",
            place,
            'no, if no RAM is lost: the line "lose cover RAM" says how much',
        )
    after, before = int(result["registers"]), _in_use(case)
    if before is None:
        number = f"{after} are in use now"
    elif before == after:
        number = f"{after} are in use, as many as before"
    else:
        number = f"{after} are in use now, and were {before} before"
    lost = "" if int(result["lost"]) <= 0 else f"{result['lost']} {result['unit']}iB of RAM"
    return Story(
        f"mtrr_cleanup laid the registers out anew: {number}, and {lost or 'no RAM'} is left uncovered",
        place,
        f"no data is at risk, but {lost} is lost to the machine"
        if lost
        else "no: all RAM is covered as before",
    )


def _in_use(case: Case) -> int | None:
    """The number of registers that mtrr_cleanup found in use; None where the text doesn't list them."""
    found = [each for each in case.dump.mtrrs if each.complete and each.lines[0] < case.main.line]
    counts = {
        len(next(each for each in found if each.source == source).variable)
        for source in {each.source for each in found} & {"mtrr_cleanup", "mtrr=debug"}
    }
    # Where they differ, one of them is of another boot, or not all there.
    return counts.pop() if len(counts) == 1 else None


def _loses_ram(case: Case) -> Story:
    lost = re.search(r"losing (\d+) ?MB", case.main.raw)
    much = f"{lost[1]} MB of RAM" if lost is not None else "some RAM"
    cleaned = _cleaned_before(case)
    if cleaned is not None:
        return _cleanup_loses_ram(case, much, cleaned)
    by_tom2 = ""
    newer: tuple[str, ...] = ()
    if _may_ignore_tom2(case):
        by_tom2 = (
            ". That needn't be so: AMD's CPUs may make RAM above 4 GiB write-back by a bit of their own "
            "(SYSCFG, Tom2ForceMemTypeWB), which this kernel looks at on families 0Fh to 11h alone"
        )
        newer = ("a kernel of 2.6.37 or later looks at that bit on all of AMD's CPUs since family 0Fh",)
    return Story(
        f"{much} can't be used: the MTRRs don't make it write-back, so Linux gives it "
        f"up{_uncached(case.dump)}{by_tom2}",
        _trim(case),
        f"no data is at risk, but {much} is lost to the machine",
        (
            *newer,
            "the firmware should be mended: an update, or its settings for memory above 4 GiB and for MTRRs",
            "disable_mtrr_trim on the kernel's command line keeps the RAM, uncached, which may make the "
            "machine very slow",
        ),
    )


def _may_ignore_tom2(case: Case) -> bool:
    """Whether a kernel is so old that it ignores Tom2ForceMemTypeWB of the CPU that the text names.

    amd_special_default_mtrr() has no upper limit any more since "x86, mtrr: Assume
    SYS_CFG[Tom2ForceMemTypeWB] exists on all future AMD CPUs", of September 2010.
    """
    dump = case.dump
    if dump.cpu.vendor != "AuthenticAMD" or linux_source.is_newer(case.age, 2, 6, 36) is not False:
        return False
    # A kernel that has found the bit prints where RAM ends.
    return (dump.cpu.family or _NEW_FAMILY) >= _NEW_FAMILY and not any(each.tom2 for each in dump.mtrrs)


#: The first family of AMD's that such kernels don't look at.
_NEW_FAMILY: Final = 0x12


def _cleaned_before(case: Case) -> int | None:
    """The line that says what mtrr_cleanup set before a complaint; None where none does.

    The registers are listed where asked for (mtrr=debug, mtrr_cleanup_debug); the first line is always there.
    """
    listed = (each.lines[0] for each in case.dump.mtrrs if each.source == "mtrr_cleanup" and each.result)
    said_so = (each.line for each in case.dump.of(Kind.MTRR_CLEANED))
    return next((line for line in (*listed, *said_so) if line < case.main.line), None)


def _cleanup_loses_ram(case: Case, much: str, cleaned: int) -> Story:
    """The story of RAM that Linux' own registers leave uncovered: no BIOS bug, whatever the line says."""
    return Story(
        f"{much} can't be used: the MTRRs don't make it write-back, so Linux gives it up. They are those "
        f"that mtrr_cleanup set (line {cleaned}), and no more the firmware's, which may have "
        "covered it",
        f"{linux_source.in_cleanup(case.age, 'mtrr_cleanup')}; {_trim(case)}",
        f"no data is at risk, but {much} is lost to the machine",
        (
            "disable_mtrr_cleanup on the kernel's command line keeps the firmware's registers; so does a "
            "command line without enable_mtrr_cleanup, mtrr_gran_size= and mtrr_chunk_size=",
        ),
    )


def _uncached(dump: Dump) -> str:
    """The memory that the registers of a text make uncachable, in words."""
    listing = dump.own_mtrr
    if listing is None or not listing.complete:
        return ""
    found: list[Span] = []
    for each in sorted(listing.variable, key=lambda each: each.base):
        if each.memtype is not MemType.UC or not each.size or each.size & (each.size - 1):
            continue
        span = Span(each.base, each.base + each.size - 1)
        if found and span.start <= found[-1].end + 1:
            found[-1] = Span(found[-1].start, max(found[-1].end, span.end))
        else:
            found.append(span)
    if not 0 < len(found) <= _MOST:
        return ""
    return f". The registers of the text make {' and '.join(map(where, found))} uncachable"


def _trim(case: Case) -> str:
    """The place of what looks for RAM that isn't cached: where a WARNING beside says, else by version."""
    function = "mtrr_trim_uncached_memory"
    for each in case.dump.of(Kind.WARNING):
        file = re.search(r"\barch/[\w/]+\.c\b", each.raw)
        if each.function == function and file is not None:
            return f"{file[0]}, {function}()"
    return linux_source.in_cleanup(case.age, function)


def _blank(case: Case) -> Story:
    # 2.6.25 to today: it comes there only with an uncachable default type, looks for write-back alone, and
    # goes back. Other types may be there, as write-protected for a ROM.
    listing = case.dump.own_mtrr
    on = listing is not None and listing.enabled is True and not case.dump.of(Kind.MTRR_OFF)
    return Story(
        "no variable MTRR says write-back, and the default type is uncachable: by the registers no RAM above "
        f"1 MiB is write-back{'' if on else ', if the MTRRs are on'}. Linux changes nothing about it",
        _trim(case),
        "no: a machine of which that is true is very slow, and not wrong. Hypervisors that have no MTRRs for "
        "their guests look so, too",
    )


def _bad_mask(case: Case) -> Story:
    return Story(
        "the mask of a variable MTRR doesn't have all of the CPU's address bits, as Linux counts them. Linux "
        "takes it for one that has, where it reads the register's range; the register stays as it is",
        linux_source.in_generic(case.age, "generic_get_mtrr"),
        "no sign of it: whether the firmware is wrong or the number of bits (encryption of memory takes some "
        "of them) the line doesn't say",
        ("the firmware should be mended, if it is wrong",),
    )


def _modifiable(case: Case) -> Story:
    return Story(
        "firmware left a bit on (SYSCFG[MtrrFixDramModEn] of AMD's) that it needs while it sets the fixed "
        "MTRRs: it shows where reads and writes below 1 MiB go, to RAM or to the bus. Linux clears it; the "
        "types of memory are as they were",
        f"{linux_source.in_generic(case.age, 'k8_check_syscfg_dram_mod_en')}: AMD has it set for the "
        "firmware's work alone",
        "no: the bit is cleared, and hides again what it showed",
        (
            "nothing has to be done; an update of the firmware may clear it",
            "on a host of SEV-SNP guests AMD's firmware wants the bit set on all CPUs: there a kernel that "
            "clears it should be mended",
        ),
    )


_FIXED: Final = 1 << 20
"""Below it the fixed ranges decide where they are on."""


def _fwts(case: Case) -> Story:
    span = case.main.span
    memory = f"{span.name}, {where(span)}," if span is not None and span.name else where(span)
    rule = (
        "none of Linux': fwts (src/cpu/mtrr/mtrr.c, validate_iomem()) wants RAM to be write-back, memory of "
        "devices that isn't prefetchable uncached, and what is prefetchable not write-back"
    )
    if case.main.asked is not None:
        found = f"isn't {said(case.main.asked)}, as it should be"
    else:
        found = f"is {' and '.join(map(said, case.main.held)) or said(None)}, as it shouldn't be"
    answer = f"the firmware test suite found by /proc/mtrr that {memory} {found}"
    if span is not None and span.end < _FIXED:
        return Story(
            f"{answer}. That may be no fault: below 1 MiB the fixed ranges decide, and /proc/mtrr has none",
            rule,
            NO_SIGN,
            ("boot 6.5 or later with mtrr=debug: its log has the fixed ranges",),
        )
    cached = MemType.WB in case.main.held and span is not None and span.name != "System RAM"
    return Story(
        answer,
        rule,
        "maybe: who maps it with write-back gets it cached. ioremap() doesn't: its uncached mappings are "
        "uncached whatever an MTRR says"
        if cached
        else "no: memory is slower than it could be",
        ("the firmware should be mended: /proc/mtrr and /proc/iomem show which register is wrong",),
    )


_UNCHECKED: Final = "maybe: nobody checks that mappings of one page have one type"


def _mtrr_off(case: Case) -> Story:
    listed = _in_use_in_proc(case.dump)
    if listed is not None:
        return Story(
            f"line {case.main.line} calls the MTRRs off, and /proc/mtrr has registers in use (line "
            f"{listed.lines[0]}), which it hasn't where they are off: the two are of different boots or "
            "kernels, and which of them is right the text doesn't say",
            linux_source.in_mtrr(case.age, "mtrr_bp_init"),
            NO_SIGN,
            ("look at bit 11 of IA32_MTRR_DEF_TYPE, rdmsr 0x2ff (msr-tools): it is set where they are on",),
        )
    off = next(iter(case.dump.of(Kind.PAT_ABSENT, Kind.PAT_DISABLED)), None)
    used = False if off is not None else _pat_is_used(case)
    given = ""
    if case.about.span is not None and case.about.granted is not None:
        given = f": {where(case.about.span)} is {said(case.about.granted)}"
    pat = {
        True: "the PAT is used all the same",
        False: f"the PAT isn't set up either: {_pat_as_it_was(case.dump.pat.types)}",
        None: "some kernels before 6.2 don't set the PAT up then, and say so in a line of their own",
    }[used]
    if off is not None:
        pat = f"the PAT isn't used either: {off.raw}"
    writeback = ""
    if off is None and _write_back_is_uncached(case.age):
        # memtype_reserve() only asks the MTRRs where pat_enabled() is true: before 6.2 that is under a
        # hypervisor alone, if the PAT isn't set up (init_cache_modes(), 72cbc8f04fe2).
        where_it_is = "" if used or case.dump.hypervisor is not None else "in a virtual machine "
        writeback = (
            f", and {where_it_is}who asks for write-back gets uncached (UC-), as no MTRR says that the "
            "memory may be cached"
        )
    return Story(
        f"{_whose(case)}; {pat}{writeback}{given}",
        f"{linux_source.in_memtype(case.age, 'pat_x_mtrr_type')}: a request for write-back is only "
        "granted where the MTRRs say write-back"
        if writeback
        else linux_source.in_mtrr(case.age, "mtrr_bp_init"),
        _danger_without_mtrrs(case, used),
        _advice_without_mtrrs(case),
    )


def _in_use_in_proc(dump: Dump) -> Mtrrs | None:
    """The registers of ``/proc/mtrr``, which is empty or can't be read where the kernel has no MTRRs."""
    return next((each for each in dump.mtrrs if each.source == "/proc/mtrr" and each.variable), None)


def _pat_is_used(case: Case) -> bool | None:
    """Whether the PAT is used where the MTRRs are off; None where the text doesn't say.

    4.2 sets it up in get_mtrr_state(), and prints it above "MTRR: Disabled". mtrr_bp_init() of 4.7 to 6.1,
    and of updates such as Ubuntu's 4.4, calls pat_disable() instead, which has a line of its own.
    """
    if case.dump.of(Kind.PAT_SKIPPED):
        return False
    if linux_source.is_newer(case.age, 6, 2):
        return True
    if case.age.kernel is not None and case.age.kernel.version >= (4, 7):
        return False
    if case.dump.pat.types in _LINUX_SETS:
        return True
    return False if case.dump.pat.types == _AT_RESET else None


def _whose(case: Case) -> str:
    """The reason for which Linux has no MTRRs."""
    if _is_xen(case):
        return "Xen has the MTRRs, and this kernel doesn't see them"
    lines = " ".join(each.raw for each in case.dump.of(Kind.MTRR_OFF))
    if "by BIOS" in lines:
        return "the firmware has left the MTRRs off"
    if "not available" in lines:
        return "the CPU has no MTRRs, as this kernel sees it"
    return "the MTRRs are off, or the CPU has none"


def _is_xen(case: Case) -> bool:
    # xen_init_capabilities() of arch/x86/xen/enlighten_pv.c clears X86_FEATURE_MTRR, as Xen has them.
    return (case.dump.hypervisor or "").startswith("Xen") or case.dump.pat.types == _XENS


def _danger_without_mtrrs(case: Case, used: bool | None) -> str:
    if case.dump.of(Kind.PAT_ABSENT, Kind.PAT_DISABLED):
        return _UNCHECKED
    if used is False and MemType.WC in case.dump.pat.types:
        # Linux hands out what the PAT was left with, and keeps no list of it.
        return _UNCHECKED
    if used and not linux_source.is_newer(case.age, 6, 2):
        # mtrr_ap_init() may leave the other CPUs' PATs alone then (4.2).
        return NO_SIGN
    return "no: memory is slow, and not wrong"


def _advice_without_mtrrs(case: Case) -> tuple[str, ...]:
    lines = " ".join(each.raw for each in case.dump.of(Kind.MTRR_OFF))
    old_cpu = "not available" in lines and (case.dump.hypervisor is None or case.dump.of(Kind.PAT_ABSENT))
    if _is_xen(case) or old_cpu:
        return ()
    return (
        "whoever makes the machine (the VMM) can turn the MTRRs on with write-back for a default: "
        "IA32_MTRR_DEF_TYPE = 0x806",
    )


_AT_RESET: Final = (MemType.WB, MemType.WT, MemType.UC_MINUS, MemType.UC) * 2
"""IA32_PAT at reset (Intel SDM vol. 3, "Page Attribute Table")."""

_XENS: Final = (
    *(MemType.WB, MemType.WT, MemType.UC_MINUS, MemType.UC),
    *(MemType.WC, MemType.WP, MemType.UC, MemType.UC),
)
"""IA32_PAT of Xen's and of its paravirtualized guests (XEN_MSR_PAT, xen/arch/x86/include/asm/processor.h)."""

_LOWER: Final = (MemType.WB, MemType.WC, MemType.UC_MINUS, MemType.UC)
_LINUX_SETS: Final = (
    # CPUs with errata, and all before 4.2; 4.2 and later; with write-protected, 4.13 or so and later.
    _LOWER * 2,
    (*_LOWER, MemType.WB, MemType.WC, MemType.UC_MINUS, MemType.WT),
    (*_LOWER, MemType.WB, MemType.WP, MemType.UC_MINUS, MemType.WT),
)
"""The values that Linux sets the PAT to (pat_init(), pat_bp_init())."""


def _pat_as_it_was(types: tuple[MemType, ...]) -> str:
    """The PAT that Linux found and left, by its line "Configuration" where the text has it."""
    if types in ((), _AT_RESET):
        return "it is as at reset, without write-combining"
    slots = [str(slot) for slot, each in enumerate(types) if each is MemType.WC]
    has = f"with write-combining in slot {' and '.join(slots)}" if slots else "without write-combining"
    return f"it is as the firmware or the hypervisor left it, {' '.join(map(str, types))}, {has}"


def _write_back_is_uncached(age: Age) -> bool:
    """Whether a kernel is known to give UC- for write-back where there are no MTRRs."""
    kernel = age.kernel
    if kernel is None:
        # It is so in all of them (f9f57da2c2d1).
        return linux_source.is_newer(age, 6, 2) is True
    major, minor, patch = kernel.version
    possible = [(major, minor, each) for each in ([patch] if kernel.exact else range(UPDATES))]
    answers = {behaviours(each)[Topic.NO_MTRR_WRITE_BACK] for each in possible}
    return answers == {Behaviour.UNCACHED_MINUS}


def _pat_off(case: Case) -> Story:
    types = case.dump.pat.types
    # init_cache_modes() takes the types from the register, whoever has set it.
    there = "there is no write-combining by page table then"
    if MemType.WC in types:
        there = _pat_as_it_was(types)
    return Story(
        f"the PAT isn't used: {case.main.raw}. {there[0].upper()}{there[1:]}, and Linux keeps no list of "
        "reservations",
        _place_of_pat_off(case),
        _UNCHECKED,
    )


def _place_of_pat_off(case: Case) -> str:
    if "erratum" in case.main.raw or "verified" in case.main.raw:
        return (
            "arch/x86/kernel/cpu/addon_cpuid_features.c, validate_pat_support(): an old kernel uses the PAT "
            "of CPUs alone that it knows to be free of errata"
        )
    if "CONFIG_X86_PAT" not in case.main.raw:
        return linux_source.in_memtype(case.age, "pat_disable")
    # A kernel without it has no pat_disable() that says anything; pat_init() before 6.2.
    function = "pat_init" if linux_source.is_newer(case.age, 6, 2) is False else "pat_bp_init"
    return linux_source.in_memtype(case.age, function)


REGISTER_STORIES: Final[dict[Kind, Teller]] = {
    Kind.MTRR_INCONSISTENT: _inconsistent,
    Kind.MTRR_BAD_MASK: _bad_mask,
    Kind.MTRR_MODIFIABLE: _modifiable,
    Kind.MTRR_CLEANUP_FAILED: _cleanup_failed,
    Kind.MTRR_CLEANED: _cleaned,
    Kind.MTRR_LOSES_RAM: _loses_ram,
    Kind.MTRR_BLANK: _blank,
    Kind.FWTS: _fwts,
    Kind.MTRR_OFF: _mtrr_off,
    Kind.PAT_SKIPPED: _mtrr_off,
    Kind.PAT_ABSENT: _pat_off,
    Kind.PAT_DISABLED: _pat_off,
}
