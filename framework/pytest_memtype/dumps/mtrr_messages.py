"""Linux' complaints about MTRRs and the PAT in its log, and those of drivers that get no MTRR."""

from __future__ import annotations

from typing import Final

from pytest_memtype.dumps.facts import Kind
from pytest_memtype.dumps.message_form import HEX, NUMBER_ENDS, form
from pytest_memtype.dumps.words import TYPE

_PREFIX: Final = r"(?:x86/)?mtrr: "

MTRR_FORMS: Final = (
    # arch/x86/kernel/cpu/mtrr/mtrr.c, mtrr_add_page() and mtrr_check(); base and size.
    # Without "mtrr: " at the latest since 5.10.
    form(
        Kind.MTRR_MISMATCH,
        "type mismatch",
        rf"\b(?:{_PREFIX})?type mismatch for (?P<start>{HEX}),(?P<size>{HEX}) old: (?P<held>{TYPE})"
        rf"(?: new: (?P<asked>{TYPE}))?",
        "asked",
    ),
    form(
        Kind.MTRR_OVERLAP,
        "overlaps existing",
        rf"\b(?:{_PREFIX})?(?P<start>{HEX}),(?P<size>{HEX}) overlaps existing"
        rf"(?: (?P<start_other>{HEX}),(?P<size_other>{HEX}){NUMBER_ENDS})?",
        "size_other",
    ),
    form(Kind.MTRR_FULL, "no more mtrrs", rf"\b(?:{_PREFIX})?no more MTRRs available"),
    form(
        Kind.MTRR_UNALIGNED,
        "base(",
        rf"\b(?:{_PREFIX})?base\((?P<start>{HEX})\) is not aligned on a size\((?P<size>{HEX})\) "
        rf"boundary",
    ),
    form(
        Kind.MTRR_UNALIGNED,
        "size and base must",
        rf"\b(?:{_PREFIX})?size and base must be multiples of 4 ?kiB",
    ),
    # The line below it, which says what was asked for.
    form(
        Kind.MTRR_UNALIGNED,
        "base: 0x",
        rf"\b{_PREFIX}size: (?P<size>0x[0-9a-f]{{1,16}})\s+base: (?P<start>0x[0-9a-f]{{1,16}}){NUMBER_ENDS}",
    ),
    # generic.c, generic_validate_add_page(), of the Pentium Pro.
    form(
        Kind.MTRR_UNALIGNED,
        "base(",
        rf"\b(?:{_PREFIX})?base\({HEX}\) is not 4 MiB aligned",
    ),
    form(
        Kind.MTRR_REFUSED,
        "writable mtrr between",
        rf"\b(?:{_PREFIX})?writable mtrr between 0x70000000 and 0x7003FFFF may hang the CPU",
    ),
    # 2.6.9 to 2.6.18 have it there as well, 2.4 in mtrr_add_page(); later kernels don't.
    form(
        Kind.MTRR_REFUSED,
        "cannot set region below",
        rf"\b{_PREFIX}cannot set region below 1 MiB \((?P<start>{HEX}),(?P<size>{HEX})\)",
    ),
    form(
        Kind.MTRR_REFUSED,
        "mtrr",
        rf"\b(?:{_PREFIX}(?:type: \d+ (?:invalid|illegal)|zero sized request)"
        rf"|(?:{_PREFIX})?base or size exceeds the MTRR width)",
    ),
    # mtrr_add_page() and have_wrcomb(); "rev < 6" since 2.6.
    form(
        Kind.MTRR_NO_WC,
        "write-combining",
        rf"\b(?:{_PREFIX})?(?:your processor doesn't support write-combining"
        r"|(?:Serverworks LE|Intel 450NX MMC)(?: rev < 6)? detected\. Write-combining disabled)",
    ),
    # mtrr_del_page().
    form(
        Kind.MTRR_NOT_REMOVED,
        "no mtrr for",
        rf"\b(?:{_PREFIX})?no MTRR for (?P<start>[0-9a-f]{{1,16}}),(?P<size>[0-9a-f]{{1,16}}) found",
    ),
    form(
        Kind.MTRR_NOT_REMOVED,
        "mtrr: ",
        rf"\b{_PREFIX}(?:register: \d+ (?:too big|not used)|reg: \d+ has count=0|MTRR \d+ not used)",
    ),
    # Drivers' words: drm and i915 since arch_phys_wc_add() (3.11), before that their own.
    form(
        Kind.MTRR_WC_FAILED,
        "failed to",
        rf"\b(?:failed to (?:add|allocate) (?:a )?WC MTRR for (?:\[mem |\[)?(?:(?P<start>{HEX}) ?- ?"
        rf"(?P<end>{HEX})"
        rf"{NUMBER_ENDS}\]?(?:: -(?P<errno>\d{{1,3}})\b)?|.{{0,40}}))",
    ),
    form(Kind.MTRR_WC_FAILED, "mtrr allocation", r"\bMTRR allocation failed"),
    # X.org's hw/xfree86/os-support/linux/lnx_video.c, mtrr_add_wc_region(), by way of /proc/mtrr.
    form(
        Kind.MTRR_WC_FAILED,
        "write-combining range",
        r"\bFailed to set up write-combining range \((?P<start>0x[0-9a-f]{1,16}),"
        r"(?P<size>0x[0-9a-f]{1,16})\)",
    ),
    form(
        Kind.MTRR_INCONSISTENT,
        "inconsistent",
        rf"\b{_PREFIX}your CPUs had inconsistent (?:fixed MTRR|variable MTRR|MTRRdefType) settings",
    ),
    form(
        Kind.MTRR_BAD_MASK,
        "incorrect mask",
        rf"\b{_PREFIX}your BIOS has (?:configured|set up) an incorrect mask",
    ),
    # generic.c, k8_check_syscfg_dram_mod_en().
    form(
        Kind.MTRR_MODIFIABLE,
        "mtrrfixdrammoden",
        r"\bMTRR: CPU \d{1,5}: SYSCFG\[MtrrFixDramModEn\] not cleared by BIOS",
    ),
    # arch/x86/kernel/cpu/mtrr/cleanup.c.
    form(Kind.MTRR_CLEANUP_FAILED, "can not find optimal", r"\bmtrr_cleanup: can ?not find optimal value"),
    form(Kind.MTRR_CLEANED, "found optimal", r"\bFound optimal setting for mtrr clean ?up"),
    form(
        Kind.MTRR_LOSES_RAM,
        "cpu mtrrs",
        r"\bCPU MTRRs don't cover all of memory(?:,(?: losing(?P<lost> \d{1,9} ?MB(?: of RAM)?)?)?)?",
    ),
    form(Kind.MTRR_BLANK, "cpu mtrrs", r"\bCPU MTRRs all blank"),
    # memtype.c and mtrr.c: the PAT needed the MTRRs until 6.2.
    form(Kind.PAT_SKIPPED, "skipping pat", r"\bMTRRs? disabled, skipping PAT initialization too"),
    # "Disabled" until 6.1; 7882b69eb6cd, "x86/mtrr: Make message for disabled MTRRs more descriptive", 6.2.
    form(Kind.MTRR_OFF, "mtrr", r"(?:\bMTRRs disabled (?:\(not available\)|by BIOS)|\bMTRR: Disabled)"),
    form(Kind.PAT_ABSENT, "pat not supported", r"\bPAT not supported by (?:the )?CPU"),
    form(
        Kind.PAT_DISABLED,
        "pat support disabled",
        # A reason that was wrapped is known by its end.
        r"\bPAT support disabled(?: (?:via boot option|by the firmware|because(?: (?P<why>CONFIG_\w{1,20} is "
        r"disabled in the kernel)| [^.\"]{1,80})?))?",
    ),
    # arch/x86/kernel/cpu/addon_cpuid_features.c, validate_pat_support() of 2.6.26 and later.
    form(
        Kind.PAT_DISABLED,
        "disabled",
        r"\bPAT (?:WC disabled due to known CPU erratum|disabled\. Not yet verified on this CPU type)",
    ),
)
"""The forms of these messages; of two that match a line the first counts."""
