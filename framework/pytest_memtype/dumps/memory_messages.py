"""Linux' messages about mappings and reservations, by version, from 2.6.27 to 7.3.

Each form was taken from the source that prints it, which its comment names.
"""

from __future__ import annotations

from typing import Final

from pytest_memtype.dumps.facts import Kind
from pytest_memtype.dumps.message_form import HEX, NUMBER_ENDS, form
from pytest_memtype.dumps.words import TYPE

#: What people put for an address or a number that they don't want to tell.
_UNTOLD: Final = r"(?:0x)?(?:\.{3}|\u2026|<[\w -]{1,24}>|\[(?:redacted|removed|snip)\]|[x*]{3,16})"
_HIDDEN: Final = rf"(?:{_UNTOLD}(?:\s?-\s?{_UNTOLD})?)"


def _range(name: str = "", end: str = "end") -> str:
    """A range: ``[mem 0x...-0x...]`` since 3.5 (365811d6f9f4), ``0x...-0x...`` or bare digits before.

    :param name: What the names of its groups end with.
    :param end: ``last`` where the message has the last byte whatever the version.
    """
    first, last = rf"(?P<start{name}>{HEX})", rf"(?P<{end}{name}>{HEX}){NUMBER_ENDS}"
    return rf"(?:\[mem )?{first}\s?-\s?{last}(?P<bracket{name}>\])?"


def _told_or_hidden() -> str:
    """A range, or what people put in place of one."""
    return rf"(?:{_range()}|(?:\[mem )?{_HIDDEN}\]?)"


# current->comm may hold spaces and colons; the kernel cuts it at 15 characters.
_WHO: Final = (
    r"(?:^(?P<process>[^\[\]\"]{1,15}?):(?P<pid>\d{1,10}) "
    rf"|(?:^|[\s\"'`(])(?P<process2>[^\s\"'`(:]{{1,15}}?):(?:(?P<pid2>\d{{1,10}})|{_HIDDEN}) |)"
)

PAIR: Final = rf"(?P<first>{TYPE})<\s?-\s?>(?P<second>{TYPE})"
"""A regular expression of the two types of a conflict."""

MEMORY_FORMS: Final = (
    # arch/x86/mm/pat/memtype_interval.c, memtype_check_conflict(); before, pat_rbtree.c, and pat.c.
    form(
        Kind.CONFLICTING_TYPES,
        "conflicting memory types",
        rf"{_WHO}conflicting memory types(?: {_told_or_hidden()})?(?:\s+{PAIR})?",
        "second",
    ),
    # arch/x86/mm/pat/memtype.c, memtype_reserve(), which was reserve_memtype() before 5.6.
    form(
        Kind.RESERVE_FAILED,
        "memtype",
        r"\b(?:memtype_reserve|reserve_memtype) failed:?(?<!ioremap memtype_reserve failed)"
        r"(?<!ioremap reserve_memtype failed)(?! -?\d{1,3}(?:$|[^-\dx]))"
        # Without "track" where the range is none (EINVAL).
        rf"(?: {_told_or_hidden()}(?:,? track (?P<track>{TYPE}|-))?(?:, req (?P<asked>{TYPE}))?)?",
        "asked",
    ),
    form(
        Kind.RESERVED,
        "memtype",
        rf"\b(?:memtype_reserve|reserve_memtype) added(?: {_range()}(?:, track (?:{TYPE})"
        rf"(?:, req (?P<asked>{TYPE}|-)(?:, ret (?P<granted>{TYPE}|-))?)?)?)?",
        "granted",
    ),
    # memtype_free(), where something was freed; in 2.6.32 behind "freeing invalid memtype", too.
    form(
        Kind.FREED,
        "memtype",
        rf"\b(?:memtype_free|free_memtype) request {_range()}",
    ),
    form(
        Kind.RAM_RESERVE_FAILED,
        "reserve_ram_pages_type failed",
        rf"\breserve_ram_pages_type failed(?: {_told_or_hidden()}"
        r"(?:, track 0x(?P<track_number>[0-9a-f]{1,4})(?:, req 0x(?P<asked_number>[0-9a-f]{1,4}))?)?)?",
        "asked_number",
    ),
    form(
        Kind.FREEING_INVALID,
        "freeing invalid memtype",
        rf"{_WHO}freeing invalid memtype(?: {_range()})?",
        "end",
    ),
    form(
        Kind.USER_REFUSED,
        "map pfn",
        rf"{_WHO}map pfn expected mapping(?: type (?P<asked>{TYPE})(?: for {_told_or_hidden()}(?:, got "
        rf"(?P<held>{TYPE}))?)?)?",
        "held",
    ),
    # arch/x86/mm/pat.c, map_devmem(), until 2.6.29.
    form(
        Kind.DEVMEM_TYPE,
        "expected mapping",
        rf"{_WHO}/dev/mem expected mapping(?: type (?P<asked>{TYPE})(?: for {_range()}(?:, got "
        rf"(?P<held>{TYPE}))?)?)?",
        "held",
    ),
    form(
        Kind.USER_RAM,
        "map pfn",
        rf"{_WHO}map pfn RAM range(?: req (?P<asked>{TYPE})(?: for {_told_or_hidden()}(?:, got "
        rf"(?P<granted>{TYPE}))?)?)?",
        "granted",
    ),
    # arch/x86/mm/ioremap.c, __ioremap_caller().
    form(
        Kind.IOREMAP_REFUSED,
        "ioremap error",
        rf"\bioremap error(?: for {_told_or_hidden()}(?:,? requested 0x(?P<asked_number>[0-9a-f]{{1,4}})"
        r"(?:,? got 0x(?P<held_number>[0-9a-f]{1,4}))?)?)?",
        "held_number",
    ),
    form(
        Kind.IOREMAP_FAILED,
        "ioremap",
        r"\bioremap (?:memtype_reserve|reserve_memtype) failed(?: (?P<errno>-?\d{1,4}))?",
        "errno",
    ),
    form(
        Kind.IOREMAP_ON_RAM,
        "ioremap on ram",
        rf"\bioremap on RAM at (?P<start>{HEX})(?: - (?P<last>{HEX}){NUMBER_ENDS})?",
        "last",
    ),
    form(Kind.IOREMAP_ON_RAM, "ioremap on ram", rf"\bioremap on RAM pfn (?P<pfn>{HEX}){NUMBER_ENDS}"),
    form(
        Kind.IOREMAP_BEYOND,
        "invalid physical address",
        rf"\bioremap: invalid physical address (?P<start>{HEX}){NUMBER_ENDS}",
    ),
    # kernel/iomem.c, memremap().
    form(
        Kind.MEMREMAP_ON_RAM,
        "memremap attempted on ram",
        rf"\bmemremap attempted on ram (?P<start>{HEX})(?: size: (?P<size>{HEX}){NUMBER_ENDS})?",
        "size",
    ),
    form(
        Kind.MEMREMAP_MIXED,
        "memremap attempted on",
        r"\bmemremap attempted on (?:mixed|unknown/mixed) range "
        rf"(?P<start>{HEX})(?: size: (?P<size>{HEX}){NUMBER_ENDS})?",
        "size",
    ),
    # memtype.c, memtype_kernel_map_sync(); pat.c's reserve_pfn_range() in 2.6.29, and for /dev/mem
    # phys_mem_access_prot_allowed() from 2.6.26 to 2.6.29, which put their names or the file's in front.
    form(
        Kind.CHANGE_FAILED,
        "ioremap_change_attr failed",
        rf"{_WHO}(?:/dev/mem |reserve_pfn_range )?ioremap_change_attr failed"
        rf"(?: (?P<asked>{TYPE})(?: for {_range()})?)?",
        "end",
    ),
    form(
        Kind.DEVMEM_REFUSED,
        "program",
        rf"\bProgram (?P<process3>.{{1,15}}?) tried to access /dev/mem between(?: \[mem(?: (?P<start>{HEX})-"
        rf"(?P<end>{HEX})(?P<bracket>\]))?| (?P<start_old>{HEX})->(?P<end_old>{HEX}))?",
    ),
    # kernel/resource.c, iomem_map_sanity_check(); the old form until 3.15.
    form(
        Kind.SANITY,
        "sanity check",
        # Both end with the last byte, which may be an even one: end = addr + size - 1, and %pR.
        rf"\bresource sanity check: requesting {_range(end='last')},? which spans more than "
        rf"(?P<other>.{{1,64}}?) {_range('_other', 'last')}",
    ),
    form(
        Kind.SANITY,
        "sanity check",
        rf"\bresource map sanity check conflict:? +(?P<start>{HEX}) (?P<last>{HEX}) "
        rf"(?P<start_other>{HEX}) "
        rf"(?P<last_other>{HEX}) (?P<other>\S.{{0,63}})",
    ),
    # arch/x86/mm/ioremap.c, __ioremap_caller() as of 4.4: a WARN, behind iomem_map_sanity_check()'s line.
    form(Kind.SANITY, "info: mapping", r"\bInfo: mapping multiple BARs\. Your kernel is fine"),
    # arch/x86/mm/pgtable.c, pud_set_huge() and pmd_set_huge().
    form(
        Kind.HUGE_PAGE,
        "_set_huge",
        rf"\bp[mu]d_set_huge: Cannot satisfy {_range()} with a huge-page mapping due to MTRR override",
    ),
    # arch/x86/mm/pat/set_memory.c.
    form(
        Kind.CPA,
        "cpa",
        # verify_rwx() says "detected" since it is there, 6.1; "refuse" was linux-next's.
        r"\bCPA(?: (?:refuse|detected) W\^X violation| protect "
        r"|: called for zero pte\. vaddr = (?P<address>[0-9a-f]{1,16}))",
    ),
)
"""The forms of these messages; of two that match a line the first counts."""
