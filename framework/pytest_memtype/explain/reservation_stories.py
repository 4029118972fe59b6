"""The meaning of complaints about mappings and reservations: which rule, how dangerous, what to do.

Sentences are for somebody who isn't an expert. What they say of the report comes from its facts; what they
say of Linux is named with file and function.
"""

from __future__ import annotations

import re
from typing import Final

from pytest_memtype.dumps.facts import Kind
from pytest_memtype.explain import linux_source
from pytest_memtype.explain.architecture import is_no_x86
from pytest_memtype.explain.event import is_of_one_event
from pytest_memtype.explain.logged_reservations import shortened_before
from pytest_memtype.explain.reservation_bugs import REFUSED_PAIRS, surely_mixed
from pytest_memtype.explain.story import (
    KEPT_APART,
    NO_SIGN,
    NOT_MAPPED,
    Case,
    Story,
    Teller,
    said,
    stack,
    where,
    who,
)
from pytest_memtype.x86.memtype import MemType


def _conflict(case: Case) -> Story:
    place = linux_source.check_conflict(case.age)
    if case.about.strict:
        return Story(
            f"{who(case.main)} asked for {where(case.about.span)} as {said(case.about.asked)} and nothing "
            f"else, and it is reserved as {said(case.about.held[0]) if case.about.held else 'another type'} "
            "already: Linux refused",
            f"a caller that takes no other type is refused when any reservation differs ({place})",
            KEPT_APART,
            (
                "whoever has the memory has to give it back first, or the caller has to ask for the type "
                "that is there",
            ),
        )
    one, two = case.about.held if len(case.about.held) == 2 else (None, None)
    unless = ""
    if len(case.main.held) < 2 or not surely_mixed(case.dump, case.about, case.main):
        unless = " (unless the caller takes no other type than its own; then the first is what it asked for)"
    return Story(
        f"{where(case.about.span)} can't be mapped as a whole: a part of it is reserved as {said(one)}, "
        f"another as {said(two)}. Which part has which the message doesn't say{unless}",
        "a request takes the type of the reservations that it overlaps; where those differ there is none "
        f"to take, so it fails, EBUSY inside the kernel, EINVAL for a process ({place})",
        KEPT_APART,
        (
            "map the pieces one by one, each within the memory that has one type",
            "map the memory before the driver does, or stop the driver",
            "nopat on the kernel's command line turns the check off, and the protection with it",
        ),
    )


_BACKWARDS: Final = re.compile(r"\b(0x[0-9a-f]{1,16})-(0x[0-9a-f]{1,16})\b", re.I)


def _reserve_failed(case: Case) -> Story:
    raw = case.main.raw
    backwards = _BACKWARDS.search(raw) if case.about.span is None else None
    if backwards is not None and int(backwards[2], 16) < int(backwards[1], 16):
        return _no_range(
            case, f"{backwards[0]} was asked for, and that is no range: its end is below its start"
        )
    # The WARN is "failed: [mem ...], req", the refusal "failed [mem ...], track ..., req", be it cut.
    if "failed:" in raw or (", req" in raw and "track" not in raw):
        return _no_range(
            case,
            f"{where(case.about.span)} was asked for, and that is no range that Linux can reserve: it goes "
            "beyond what an address can be, or ends where it begins",
        )
    conflicts = (each for each in case.dump.of(Kind.CONFLICTING_TYPES) if is_of_one_event(case.main, each))
    said_why = [number for each in conflicts for number in each.lines]
    said_why += [each.number for each in case.dump.cut if each.number not in case.main.lines]
    why = (
        f"line {min(said_why)} may say why"
        if said_why
        else "the line above this one, which the text lacks, says why"
    )
    return Story(
        f"{where(case.about.span)} was asked for as {said(case.about.asked)}, and Linux couldn't reserve "
        f"it; {why}",
        # What is partly RAM is refused before, and silently.
        f"{linux_source.in_memtype(case.age, 'memtype_reserve')} refuses memory that has two types, or "
        "another type than the only one that the caller takes (EBUSY)",
        NOT_MAPPED,
    )


def _no_range(case: Case, what: str) -> Story:
    """The story of a request for what is no range, which memtype_reserve() warns of."""
    return Story(
        what,
        f"{linux_source.in_memtype(case.age, 'memtype_reserve')} gives EINVAL for a range whose "
        "end, without the bits that no address has, isn't behind its start",
        NOT_MAPPED,
    )


def _reserved(case: Case) -> Story:
    asked, granted = case.main.asked, case.main.granted
    told = f"{where(case.about.span)} was asked for as {said(asked)}"
    callers = ", ".join(f"{each}()" for each in case.dump.request_stack[:4])
    # Lines of debugpat's and a stack don't say that they belong together.
    by = f". The text has the stack of a request, called by {callers}" if callers else ""
    place = linux_source.in_memtype(case.age, "memtype_reserve")
    if granted is None or granted is asked:
        return Story(f"{told}, and reserved so{by}", place, NO_SIGN)
    if asked is MemType.WB:
        why = "what isn't write-back by the MTRRs, or is mapped with another type, isn't given as write-back"
        return Story(
            f"{told}, and given as {said(granted)}{by}", f"{why} ({place})", "no: it is slower, and not wrong"
        )
    return Story(
        f"{told}, and as somebody has it as {said(granted)}, it was given as that{by}",
        f"a request takes the type of the reservations that it overlaps, unless "
        f"{linux_source.NEW_MEMTYPE_ALLOWED} forbids it afterwards ({place})",
        "no: every mapping of the memory has the same type",
        ("who needs another type has to come first, or ask whoever has the memory for it",),
    )


def _ram_reserve(case: Case) -> Story:
    held = case.main.held[0] if case.main.held else None
    return Story(
        f"the RAM {where(case.about.span)} was to become {said(case.about.asked)}, but a page of it is "
        f"{said(held)} already: somebody, maybe the same driver, has changed it and not changed it back",
        "the type of RAM is kept in two flags of each page, without a count: a page that isn't write-back "
        "is somebody's, even if it is of the type asked for "
        f"({linux_source.in_memtype(case.age, 'reserve_ram_pages_type')})",
        "no: nothing was changed",
        ("the first user has to call set_memory_wb() before the next one asks",),
    )


def _freeing(case: Case) -> Story:
    if case.about.span is not None and case.about.span.end >> 52:
        return Story(
            f"{who(case.main)} gave back {where(case.about.span)}, which is no physical address: its sign "
            "was extended",
            f"{linux_source.in_memtype(case.age, 'memtype_free')} found no reservation for it",
            NO_SIGN,
        )
    counted = linux_source.is_newer(case.age, 6, 16)
    # "x86/mm/pat: Change free_memtype() to support shrinking case", 2039e6acaf94, 4.5 to 6.15.
    ends_there = {
        True: ", or one that is longer and ends there",
        None: ", or (4.5 to 6.15) one that is longer and ends there",
    }
    how = ends_there.get(linux_source.is_newer(case.age, 4, 5), "") if not counted else ""
    advice = [
        "compare /sys/kernel/debug/x86/pat_memtype_list before the program starts and after it has ended"
    ]
    if not counted:
        advice.append(
            "try a kernel of 6.16 or later, which counts the pieces of a process's mapping, and has no such "
            "message"
        )
    why = (
        "no reservation of that: what was reserved for the mapping has another size by now, was given back "
        "before, or was never reserved"
    )
    lost = shortened_before(case.dump, case.main)
    if lost is not None:
        why = (
            f"no reservation of that any more: line {lost.request.line} gave back "
            f"{where(lost.request.span)}, which is no reservation of its own: it shortened this one, "
            "which ends there. What is left of it stays behind"
        )
    return Story(
        f"{who(case.main)} gave back {where(case.about.span)}, and Linux has {why}",
        f"a reservation is found by exactly that range{how} "
        f"({linux_source.in_memtype(case.age, 'memtype_free')})",
        "maybe: if the reservation was given back too early, others can map memory with another type while "
        "it is still mapped; if it stays behind, memory is only kept from having other types until the "
        "next boot",
        tuple(advice),
    )


def _user_refused(case: Case) -> Story:
    held = case.main.held[0] if len(case.main.held) == 1 else None
    forbidden = f", and it forbids to give {said(held)} to who asked for {said(case.main.asked)}"
    if case.main.asked is not None and held is not None and (case.main.asked, held) not in REFUSED_PAIRS:
        # "mm: rewrite pfnmap tracking and remove VM_PAT", 6.16: a fork reserves nothing any more.
        if linux_source.is_newer(case.age, 6, 16) is not True:
            return _fork_refused(case, held)
        forbidden = ""
    return Story(
        f"{who(case.main)} wanted to map {where(case.about.span)} as {said(case.main.asked)}, and it is "
        f"reserved as {said(held)} already: the mapping was refused (EINVAL)",
        f"{linux_source.in_memtype(case.age, 'reserve_pfn_range')}: a mapping gets the type that is "
        f"there, unless {linux_source.NEW_MEMTYPE_ALLOWED} forbids it{forbidden}",
        KEPT_APART,
        _ABOUT_WB_FIRST if held is MemType.WB else (),
    )


def _fork_refused(case: Case, held: MemType) -> Story:
    types = case.dump.pat.types
    reason = ""
    if types and held not in types:
        reason = (
            f". The PAT of this CPU has no {held}, as its configuration in the log says: such memory is "
            f"{said(case.main.asked)} in the page table, while the list keeps the name {held}; so they "
            "differ"
        )
    return Story(
        f"{who(case.main)} couldn't fork: its mapping of {where(case.about.span)} is "
        f"{said(case.main.asked)} in the page table, and the list of reservations has the memory as "
        f"{said(held)}{reason}",
        f"mmap() would have taken {said(held)}, so it was fork() that was refused: a child's mapping takes "
        f"no other type than its parent's ({linux_source.in_memtype(case.age, 'track_pfn_copy')}, "
        "reserve_pfn_range() with strict_prot)",
        "no: the fork fails; page table and list disagree about memory that is mapped already",
        (
            "give the CPU MTRRs (the emulator's basic model has none), or a kernel from 6.2 on, which uses "
            "the PAT without them"
            if reason
            else "unmap such memory before fork(), or mark it with madvise(MADV_DONTFORK)",
        ),
    )


_ABOUT_WB_FIRST: Final = (
    "find out who mapped the memory write-back first, and have that use another type, or later",
    "if the MTRRs call the memory write-back although it is a device's, that is the firmware's or the "
    "hypervisor's to mend",
)


def _devmem_type(case: Case) -> Story:
    other = said(case.main.held[0]) if case.main.held else "another type"
    return Story(
        f"{who(case.main)} has {where(case.about.span)} of /dev/mem mapped as {said(case.main.asked)}, and "
        f"it was reserved as {other}: Linux only says so",
        "arch/x86/mm/pat.c, map_devmem(), until 2.6.29: the reservation's answer is compared, and nothing is "
        "undone",
        "maybe: the page table and the list of reservations disagree about the memory",
        ("2.6.30 and later refuse such a mapping, or give it the type that is there",),
    )


def _user_ram(case: Case) -> Story:
    return Story(
        f"{who(case.main)} has {where(case.about.span)} mapped, which is RAM, as {said(case.main.granted)}, "
        f"and not as {said(case.main.asked)}, which the driver had asked for. The line only says that the "
        "wish was passed over",
        "RAM that is mapped into a process keeps the type that its pages have, whatever the page "
        f"protection says ({linux_source.in_memtype(case.age, 'reserve_pfn_range')})",
        "not by two types: process and kernel have the same, which is why Linux does it. But a device that "
        "doesn't look into the caches, as some GPUs, may read old data there",
        (
            "a driver that wants another type has to change the pages first, with set_memory_wc() or "
            "set_memory_uc()",
            "memory of dma_alloc_coherent() is mapped with dma_mmap_coherent(), which asks for the type "
            "that it has",
            "on x86 devices see what the caches hold, so write-back is right for most DMA buffers",
        ),
    )


def _ioremap_refused(case: Case) -> Story:
    held = case.main.held[0] if case.main.held else None
    return Story(
        f"{who(case.main)} asked for {where(case.about.span)} as {said(case.main.asked)}, and somebody had "
        f"it as {said(held)} already: ioremap() gave NULL, which most drivers make error -12 (ENOMEM) of",
        f"{linux_source.IOREMAP}: a mapping gets the type that is there, unless "
        f"{linux_source.NEW_MEMTYPE_ALLOWED} forbids it, and it forbids to give "
        f"{said(held)} to who asked for {said(case.main.asked)}",
        "no: the refusal is what keeps one page from having two types. What asked doesn't work",
        _ABOUT_WB_FIRST if held is MemType.WB else (),
    )


def _ioremap_failed(case: Case) -> Story:
    why = {
        16: "the memory has two types, or a page of RAM is somebody's (EBUSY)",
        22: "the range is partly RAM, or no range (EINVAL)",
    }
    return Story(
        f"ioremap() of {where(case.about.span)} failed: "
        f"{why.get(case.main.errno or 0, 'the memory could not be reserved')}",
        f"{linux_source.IOREMAP}, after {linux_source.in_memtype(case.age, 'memtype_reserve')}",
        NOT_MAPPED,
    )


def _ioremap_ram(case: Case) -> Story:
    trace = case.main.trace
    # drivers/char/mem.c: what isn't the kernel's RAM is mapped for each page that is read or written.
    devmem = next((f", to {verb} /dev/mem" for each, verb in _DEVMEM_CALLS.items() if each in trace), "")
    memremap = "memremap() is the function for RAM"
    at_0 = case.about.span is not None and case.about.span.start == 0
    return Story(
        f"{who(case.main)} asked for {where(case.about.span)} with ioremap(){stack(case.main)}{devmem}; that "
        "is RAM, and it got NULL",
        "RAM has a mapping of the kernel's already, and its pages one type; ioremap() refuses it "
        f"({linux_source.IOREMAP}). The warning comes once a boot, the refusal each time",
        KEPT_APART,
        (
            *([] if any("memremap" in each for each in trace) or at_0 else [memremap]),
            *([_NO_ADDRESS] if at_0 else []),
            "RAM that is to be a device's is kept from the kernel with memmap= or by the firmware",
        ),
    )


_NO_ADDRESS: Final = (
    "find out where the driver has the address 0 from: firmware or a BAR that gave it none, as a rule"
)
_DEVMEM_CALLS: Final = {"write_mem": "write", "read_mem": "read"}


def _memremap(case: Case) -> Story:
    what = "is RAM" if case.main.kind is Kind.MEMREMAP_ON_RAM else "is partly RAM and partly not"
    by = f" by {who(case.main)}" if case.main.process is not None else ""
    asking = f"{stack(case.main)}," if case.main.trace else ""
    machine = f". The machine, {case.dump.machine}, is no x86: rules of x86 don't hold there"
    return Story(
        f"memremap() was asked{by}{asking} for {where(case.about.span)}, which {what}: it gave NULL"
        f"{machine if is_no_x86(case.dump) else ''}",
        f"{linux_source.memremap(case.age)}: RAM is mapped write-back only, as the kernel has it, and a "
        "mixed range not at all",
        NOT_MAPPED,
    )


def _change_failed(case: Case) -> Story:
    raw, place, of = case.main.raw, "memtype_kernel_map_sync", ""
    if "/dev/mem" in raw:
        # Until 2.6.29 the file had a check of its own, for mmap().
        place, of = "phys_mem_access_prot_allowed", " to map it from /dev/mem"
    elif "reserve_pfn_range" in raw:
        place = "reserve_pfn_range"
    # __change_page_attr() says so right before, in the same call.
    above = [each for each in case.dump.of(Kind.CPA) if each.line < case.main.line and "zero pte" in each.raw]
    why = f", as the kernel's page table has no entry there (line {above[-1].line})" if above else ""
    return Story(
        f"the kernel's own mapping of {where(case.about.span)} couldn't be changed to "
        f"{said(case.main.asked)}{why}, so the request of {who(case.main)}{of} was refused",
        linux_source.in_memtype(case.age, place),
        KEPT_APART,
    )


def _devmem(case: Case) -> Story:
    wanted = f"{who(case.main)} wanted {where(case.about.span)} of /dev/mem"
    why = "which isn't allowed, as it is RAM or a driver's"
    # The words of pat.c, which are about mmap() alone: [mem ...] since 3.5, "PAT prevents it" later.
    if "[mem " in case.main.raw:
        return Story(
            f"{wanted}, {why}: mmap() failed",
            f"{linux_source.in_memtype(case.age, 'phys_mem_access_prot_allowed')}, in kernels "
            "without CONFIG_STRICT_DEVMEM",
            NOT_MAPPED,
        )
    # 3.5 changed pat.c's words (365811d6f9f4), and not mem.c's.
    old = linux_source.is_newer(case.age, 3, 5)
    pat = "; before 3.5 arch/x86/mm/pat.c says the same of mmap() where that is off" if not old else ""
    return Story(
        f"{wanted}, {why}: the access was refused. Whether it was a read, a write or mmap() the line doesn't "
        "say",
        f"drivers/char/mem.c, range_is_allowed(), with CONFIG_STRICT_DEVMEM{pat}. It is about who may touch "
        "memory, not about types",
        "no: nothing was read, written or mapped",
    )


RESERVATION_STORIES: Final[dict[Kind, Teller]] = {
    Kind.CONFLICTING_TYPES: _conflict,
    Kind.RESERVE_FAILED: _reserve_failed,
    Kind.RESERVED: _reserved,
    Kind.RAM_RESERVE_FAILED: _ram_reserve,
    Kind.FREEING_INVALID: _freeing,
    Kind.USER_REFUSED: _user_refused,
    Kind.USER_RAM: _user_ram,
    Kind.DEVMEM_TYPE: _devmem_type,
    Kind.IOREMAP_REFUSED: _ioremap_refused,
    Kind.IOREMAP_FAILED: _ioremap_failed,
    Kind.IOREMAP_ON_RAM: _ioremap_ram,
    Kind.MEMREMAP_ON_RAM: _memremap,
    Kind.MEMREMAP_MIXED: _memremap,
    Kind.CHANGE_FAILED: _change_failed,
    Kind.DEVMEM_REFUSED: _devmem,
}
