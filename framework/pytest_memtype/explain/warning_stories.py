"""The meaning of WARNINGs with a stack, and of the messages that say what they warn of.

Sentences are for somebody who isn't an expert. What they say of the report comes from its facts; what they
say of Linux is named with file and function.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from pytest_memtype.dumps.facts import Complaint, Kind, Span
from pytest_memtype.dumps.worded_warnings import BESIDE, HARMLESS
from pytest_memtype.explain import linux_source
from pytest_memtype.explain.process_bugs import remap_failed
from pytest_memtype.explain.story import NOT_MAPPED, Case, Story, Teller, stack, where, who

#: Functions that make, find or give back reservations.
_OF_RESERVATIONS: Final = re.compile(r"memtype|^(?:get_pat_info$|(?:un)?track_|pfnmap_)")


def is_of_reservations(warning: Complaint) -> bool:
    """Whether a WARNING is of a function that keeps reservations, and isn't about a range's resources.

    :param warning: A complaint of :attr:`Kind.WARNING`.
    """
    function = warning.function or ""
    return function not in HARMLESS and _OF_RESERVATIONS.search(function) is not None


def _while(main: Complaint) -> str:
    """The process that was running in words; it may be an innocent one."""
    return f", while {who(main)} was running" if main.process is not None else ""


#: SYSCALL_DEFINE(): sys_ and SyS_ until 4.17, then with the ABI's name in front.
_SYSTEM_CALL: Final = re.compile(
    r"^(?:__(?:x64|ia32|x32|se|do)_(?:compat_)?sys_|(?:compat_)?(?:sys|SyS)_)(\w+)$"
)


def _in_call(main: Complaint) -> str:
    """The system call that led to a complaint in words, where its stack has it further out than is told."""
    calls = [call[1] for each in main.trace[4:] if (call := _SYSTEM_CALL.match(each))]
    return f", in the system call {calls[0]}()" if calls else ""


#: reserve_memtype()'s callers. Stacks of 32-bit kernels have what was left on it by others, without a mark.
_ASKS: Final = re.compile(
    r"ioremap|^(?:_?set_(?:memory|pages)_\w+|reserve_pfn_range|track_pfn\w*|io_reserve_memtype"
    r"|phys_mem_access_prot_allowed|map_devmem)$"
)


#: Functions of set_memory.c that change what may be done with memory.
_RIGHTS: Final = re.compile(r"^set_(?:memory|pages|page)_(?:x|nx|ro|rw|rox|np|p)$")


def _bug(case: Case) -> Story:
    trace = case.main.trace
    asked = next((index for index, each in enumerate(trace) if _ASKS.search(each)), None)
    by = stack(replace(case.main, trace=trace[asked:])) if asked is not None else ""
    needed = case.main.pid in (0, 1)
    killed = who(case.main) if case.main.process is not None else "the process"
    end = f"panics, as it can't do without {killed}" if needed else f"killed {killed}"
    place = f"{case.main.function}()" if case.main.function is not None else "a function of memory types"
    danger = "locks that the process held stay locked, so others may hang"
    if needed:
        danger = "the machine stops"
    if case.main.function != "reserve_memtype":
        rights = any(_RIGHTS.match(each) for each in (case.main.function or "", *trace))
        about = ". It was about access rights of the kernel's memory, not about its type" if rights else ""
        return Story(
            f"{place} met what must not be{by}{_in_call(case.main)}: the kernel {end}{about}",
            f"the place is in the line: {case.main.raw}",
            danger,
        )
    # arch/x86/mm/pat.c, 2.6.26 to 4.19 at least: BUG_ON(start >= end), the only BUG of that function.
    return Story(
        "a range was to be reserved whose end isn't behind its start: of no size, or beyond what an address "
        f"can be{by}{_in_call(case.main)}. The kernel goes no further there (BUG_ON), and {end}",
        f"{linux_source.in_memtype(case.age, 'memtype_reserve')}, BUG_ON(start >= end). Newer kernels warn "
        "(memtype_reserve failed), and refuse",
        f"{danger}. Nothing was mapped",
    )


def _warning(case: Case) -> Story:
    extra = ""
    if case.main.function in ("get_pat_info", "untrack_pfn", "untrack_pfn_vma"):
        extra = (
            ": the type and the address of a mapping's reservation couldn't be read from its page table, "
            "so it was not given back"
        )
    danger = "the line doesn't say"
    if is_of_reservations(case.main):
        danger = "maybe: a reservation stays behind, or memory is tracked wrongly from then on"
    if remap_failed(case.main):
        extra = (
            ": remap_pfn_range() couldn't map the first page, and looked for the reservation of what it had "
            "mapped in a page table that is empty"
        )
        danger = (
            "no: the reservation is freed behind that, by address and size; with panic_on_warn the machine "
            "stops"
        )
    if _is_moved(case):
        extra = (
            ": mremap() had moved a mapping, and unmaps its old place, whose page table doesn't say any more "
            "what was reserved for it (before 4.5)"
        )
        danger = "no: the moved mapping has the reservation, and gives it back"
    if case.main.function == "__ioremap_caller":
        danger = (
            "no sign of it: __ioremap_caller() warns of what it refuses, RAM or an address that the CPU "
            "doesn't have, and of a range over several resources, which it lets pass"
        )
    elif case.main.function in HARMLESS:
        extra = ": the range that was to be reserved spans more than one resource (iomem_map_sanity_check())"
        danger = "no sign of it: it warns, and goes on"
    return Story(
        f"{case.main.function}() has warned{extra}{stack(case.main)}{_in_call(case.main)}{_while(case.main)}",
        f"the place is in the line: {case.main.raw}",
        danger,
    )


def _is_moved(case: Case) -> bool:
    """Whether a WARN is of the old place of a mapping that mremap() has moved.

    move_vma() has moved the page table's entries before it unmaps that, and untrack_pfn() goes back without
    freeing; the new VMA has VM_PAT and the entries. "x86/mm/pat: Add untrack_pfn_moved for mremap",
    d9fe4fab1197, 4.5, has it forget the reservation before.
    """
    return (
        (case.main.function or "").startswith("untrack_pfn")
        and "move_vma" in case.main.trace
        and linux_source.is_newer(case.age, 4, 5) is not True
    )


#: Functions of the kernel's between a driver and what checks its range.
_MAPS: Final = re.compile(r"ioremap|iomap|os_map_|memtype")
#: Functions that call what a module begins with, and so any.
_LOADS: Final = re.compile(r"^(?:load_module|do_init_module|do_one_initcall|do_syscall_\w+|system_call\w*)$")
_LOOKED_AT: Final = "kernel/resource.c, iomem_map_sanity_check()"
_NO_ADDRESS: Final = (
    "look above in the log for a BAR that couldn't be assigned or resized: one that got no address is at 0"
)
_OTHERS_REGISTERS: Final = "no sign of it: whoever mapped it may touch registers that aren't its own"


def _sanity(case: Case) -> Story:
    by = _asker(case.main)
    if case.main.other is None and case.about.span is None:
        return Story(
            f"{by} mapped memory of several resources at once. It is allowed; the line is a warning",
            _LOOKED_AT,
            _OTHERS_REGISTERS,
        )
    other = "another resource"
    if case.main.other is not None:
        other = f"{case.main.other.name} ({where(case.main.other)})"
    if case.about.span is None:
        return Story(
            f"{by} asked for memory of size 0 at address 0: the line prints start + size - 1, which is all "
            f"ones then, and so everything, {other} too. A BAR that got no address looks so",
            _LOOKED_AT,
            "no sign of it: it warns, and goes on",
            (_NO_ADDRESS,),
        )
    advice: tuple[str, ...] = ()
    if case.about.span.start == 0:
        advice = (_NO_ADDRESS,)
    if _is_mapped(case):
        done = "mapped"
        allowed = "It is allowed; the line is a warning"
    else:
        done = "asked for"
        allowed = (
            "The line is a warning: nothing is refused for that, and whether it was mapped it doesn't say"
        )
    if case.main.other is not None and _is_of_its_pages(case.about.span, case.main.other):
        return Story(
            f"{by} {done} {where(case.about.span)}, which reaches beyond {other} only as mappings are of "
            f"whole pages (4 KiB). {allowed}",
            f"{_LOOKED_AT}; later kernels compare pages there, and are silent",
            "no: there is no smaller mapping",
        )
    return Story(
        f"{by} {done} {where(case.about.span)}, which reaches beyond {other}. {allowed}",
        _LOOKED_AT,
        _OTHERS_REGISTERS,
        advice,
    )


def _is_of_its_pages(span: Span, resource: Span) -> bool:
    """Whether a range is within the pages that a resource has a part of."""
    return resource.start & ~0xFFF <= span.start and span.end <= resource.end | 0xFFF


def _asker(main: Complaint) -> str:
    """The asker: the first function of the stack that isn't the kernel's way there, else the process."""
    first = next((each for each in main.trace if not _MAPS.search(each)), None)
    if first is None or _LOADS.match(first) or _SYSTEM_CALL.match(first):
        return who(main)
    return f"{first}()"


def _is_mapped(case: Case) -> bool:
    """Whether the range was mapped: __ioremap_caller() looks at resources after it has mapped, since 3.1.

    2.6.32 looks first, and refuses RAM behind that. memtype_reserve_io() looks first in all versions.
    """
    if case.main.caller is not None:
        # "caller ... mapping multiple BARs", which has no other place than behind the mapping.
        return True
    # "Info: mapping multiple BARs" is the WARNING's, whose function may be another for the next such line.
    multiple = any(
        each.other is None and abs(each.line - case.main.line) <= BESIDE for each in case.dump.of(Kind.SANITY)
    )
    return multiple and linux_source.is_newer(case.age, 3, 1) is True


def _huge(case: Case) -> Story:
    # 12f0dd8df1a9 and its neighbours, 6.5: until then a range may be of several registers of one type, if
    # that isn't write-back; from then on "not uniform" is said of MTRRs that aren't known yet, too.
    why = {
        True: "more than one type there, or aren't known",
        False: "no single register or default type that decides on all of it, and not write-back there",
        None: "more than one type there (6.5 and later: or aren't known; before: or several registers that "
        "don't say write-back)",
    }[linux_source.is_newer(case.age, 6, 5)]
    if _has_one_type(case):
        assert case.dump.mtrr_map is not None
        why = (
            f"{why}, says the line. The map of them in line {case.dump.mtrr_map.line} has no boundary there, "
            "so that the text doesn't say why"
        )
    return Story(
        f"{where(case.about.span)} is mapped with small pages, as the MTRRs have {why}",
        "arch/x86/mm/pgtable.c, pmd_set_huge() and pud_set_huge()",
        "no",
    )


def _has_one_type(case: Case) -> bool:
    """Whether the text has all of the map of MTRRs, and that says one type of the range, or nothing."""
    mapped, span = case.dump.mtrr_map, case.about.span
    if mapped is None or span is None or len(mapped.spans) != mapped.entries or not mapped.entries:
        return False
    return all(each.contains(span) or not each.overlaps(span) for each, _ in mapped.spans)


def _cpa(case: Case) -> Story:
    raw = case.main.raw
    if "zero pte" in raw:
        return Story(
            f"page attributes were to be changed at {_virtual(case.main)}, and the kernel's page table has "
            f"no entry there: it was refused (EFAULT){stack(case.main)}{_while(case.main)}",
            linux_source.in_set_memory(case.age, "__cpa_process_fault"),
            "no sign of it: nothing was changed there, and it isn't about reservations",
        )
    if "W^X" in raw:
        return Story(
            f"memory of the kernel's was to become writable and executable at once{stack(case.main)}"
            f"{_while(case.main)}",
            linux_source.in_set_memory(case.age, "verify_rwx"),
            "not to the types of memory: it is about access rights",
        )
    return Story(
        f"a change of page attributes met something unexpected: {raw}",
        linux_source.in_set_memory(case.age),
        "maybe; the line alone doesn't say",
    )


def _virtual(main: Complaint) -> str:
    return "a virtual address" if main.address is None else f"the virtual address {main.address:#x}"


def _ioremap_beyond(case: Case) -> Story:
    address = case.main.raw.rsplit(" ", 1)[-1]
    return Story(
        f"{who(case.main)} asked ioremap() for the address {int(address, 16):#x}{stack(case.main)}, which "
        "this CPU hasn't got: its physical addresses have fewer bits",
        f"{linux_source.IOREMAP}, phys_addr_valid()",
        NOT_MAPPED,
        (
            "find out where the address comes from: a table of the firmware's that is broken, or a device "
            "that isn't configured, whose BAR reads as all ones",
        ),
    )


WARNING_STORIES: Final[dict[Kind, Teller]] = {
    Kind.SANITY: _sanity,
    Kind.HUGE_PAGE: _huge,
    Kind.CPA: _cpa,
    Kind.IOREMAP_BEYOND: _ioremap_beyond,
    Kind.WARNING: _warning,
    Kind.BUG: _bug,
}
