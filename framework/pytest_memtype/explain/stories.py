"""The meaning of each kind of complaint: by which rule of Linux it came, how dangerous it is, what to do.

Sentences are for somebody who isn't an expert. What they say of the report comes from its facts; what they
say of Linux is named with file and function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from pytest_memtype.dumps.facts import Complaint, Dump, Kind, Span
from pytest_memtype.explain import linux_source
from pytest_memtype.explain.known_bugs import REFUSED_PAIRS, Suspect
from pytest_memtype.explain.subject import Subject
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.size import format_size

_WHAT: Final = {
    MemType.WB: "cached (write-back, WB)",
    MemType.WC: "write-combining (WC)",
    MemType.WT: "write-through (WT)",
    MemType.WP: "write-protected (WP)",
    MemType.UC: "strictly uncached (UC)",
    MemType.UC_MINUS: "uncached (UC-)",
}


@dataclass(frozen=True)
class Story:
    """The meaning of a complaint.

    :param answer: One or two sentences: the whole of it.
    :param rule: The rule of Linux that answered, with its place.
    :param danger: Whether it is dangerous, and to what.
    :param advice: What people do about it.
    """

    answer: str
    rule: str
    danger: str
    advice: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Case:
    """A report, what it is about, and the complaint that counts."""

    dump: Dump
    about: Subject
    main: Complaint


def said(memtype: MemType | None) -> str:
    """A type in words."""
    return "a type that isn't said" if memtype is None else _WHAT[memtype]


def where(span: Span | None) -> str:
    """A range in words."""
    if span is None:
        return "memory that the text doesn't name"
    return f"{span.start:#x}-{span.end:#x} ({format_size(span.size)})"


def who(complaint: Complaint) -> str:
    """The actor of a complaint in words, as far as the line names one."""
    if complaint.process is not None:
        pid = f" ({complaint.pid})" if complaint.pid is not None else ""
        return f"the process {complaint.process}{pid}"
    if complaint.caller is not None:
        return f"the function {complaint.caller}()"
    return "somebody whom the line doesn't name"


def story(dump: Dump, about: Subject, suspects: Sequence[Suspect] = ()) -> Story:
    """The meaning of a report, by the complaint that counts in it.

    :param dump: What was read of the report.
    :param about: What it is about.
    :param suspects: Known bugs that it fits.
    """
    if about.main is None:
        if suspects and not about.entries:
            return _by_words(suspects)
        return _no_complaint(dump, about)
    found = _STORIES[about.main.kind]
    return found if isinstance(found, Story) else found(_Case(dump, about, about.main))


def _by_words(suspects: Sequence[Suspect]) -> Story:
    """The meaning of a report without a line of the kernel's that fits a bug by what is told."""
    titles = " or ".join(f"{each.title} ({each.id})" for each in suspects)
    return Story(f"no line of the kernel's says so, but what is told fits a known bug: {titles}", "", "")


def _no_complaint(dump: Dump, about: Subject) -> Story:
    if about.span is not None and about.entries:
        return _listed(dump, about)
    if dump.entries_shown and not dump.entries:
        return Story(
            "the list of reservations is empty where the text shows it",
            "",
            "nothing in the text is a sign of danger",
        )
    if dump.mtrrs or dump.mtrr_map is not None or dump.entries or dump.pat.types:
        found = [each for each, there in _shown(dump) if there]
        return Story(
            f"the text shows {', '.join(found)}, and no complaint of the kernel's about memory types",
            "",
            "nothing in the text is a sign of danger",
        )
    if dump.debug_lines:
        return Story(
            "the text shows how memory was reserved and given back (debugpat), and no complaint of the "
            "kernel's about memory types",
            "",
            "nothing in the text is a sign of danger",
        )
    if dump.unread:
        return Story("what the text has about memory types wasn't understood", "", "")
    return Story("nothing here is about memory types", "", "")


def _shown(dump: Dump) -> list[tuple[str, bool]]:
    return [
        ("MTRRs", bool(dump.mtrrs) or dump.mtrr_map is not None),
        ("the PAT", bool(dump.pat.types)),
        ("reservations", bool(dump.entries)),
    ]


def _listed(dump: Dump, about: Subject) -> Story:
    """A question about the list of reservations."""
    assert about.span is not None
    types = sorted({each.memtype for each in about.entries})
    names = " and ".join(each.kernel_name for each in types)
    answer = f"{about.span.start:x}-{about.span.end:x} is {names} in the list of reservations"
    neighbours = [
        each for each in dump.entries if each.span.end + 1 == about.span.start and each.memtype not in types
    ]
    if neighbours:
        each = neighbours[0]
        other = next((bar for bar in dump.bars if bar.span == each.span), None)
        mine = next((bar for bar in dump.bars if bar.span == about.span), None)
        whose = (
            "is the other BAR's" if other and mine else f"is of {each.span.start:x}-{each.span.end:x} alone"
        )
        answer = f"the list's ends are exclusive; {answer}, the {each.memtype.kernel_name} entry {whose}"
    asked = _asked_about(dump)
    if asked is not None:
        answer = f"{'yes' if types == [asked] else 'no'}: {answer}"
    return Story(
        answer,
        f"each line is one reservation, as {linux_source.in_memtype(dump.kernel, 'memtype_reserve')} keeps "
        "them; the end that is printed is the byte behind the last. Memory that is RAM never stands there",
        "nothing in the text is a sign of danger",
        (
            "what a mapping's page table really has, the list doesn't say: memtype audit reads that in a "
            "guest",
        ),
    )


def _asked_about(dump: Dump) -> MemType | None:
    """The type that a question of the writer's names."""
    for line in dump.prose:
        text = line.text.lower()
        if "?" not in text or not any(
            text.startswith(each) or f" {each}" in text for each in ("is ", "are ", "why is ")
        ):
            continue
        for word, memtype in (
            ("combining", MemType.WC),
            ("write-back", MemType.WB),
            ("uncached", MemType.UC_MINUS),
            ("cached", MemType.WB),
        ):
            if word in text:
                return memtype
    return None


def _conflict(case: _Case) -> Story:
    place = linux_source.check_conflict(case.dump.kernel)
    if case.about.strict:
        return Story(
            f"{who(case.main)} asked for {where(case.about.span)} as {said(case.about.asked)} and nothing "
            f"else, and it is reserved as {said(case.about.held[0]) if case.about.held else 'another type'} "
            "already: Linux refused",
            f"a caller that takes no other type is refused when any reservation differs ({place})",
            "no: the refusal is what keeps one page from having two types",
            (
                "whoever has the memory has to give it back first, or the caller has to ask for the type "
                "that is there",
            ),
        )
    one, two = case.about.held if len(case.about.held) == 2 else (None, None)
    return Story(
        f"{where(case.about.span)} can't be mapped as a whole: a part of it is reserved as {said(one)}, "
        f"another as {said(two)}. Which part has which the message doesn't say (unless the caller takes no "
        "other type than its own; then the first is what it asked for)",
        "a request takes the type of the reservations that it overlaps; where those differ there is none "
        f"to take, so it fails, EBUSY inside the kernel, EINVAL for a process ({place})",
        "no: the refusal is what keeps one page from having two types",
        (
            "map the pieces one by one, each within the memory that has one type",
            "map the memory before the driver does, or stop the driver",
            "nopat on the kernel's command line turns the check off, and the protection with it",
        ),
    )


def _reserve_failed(case: _Case) -> Story:
    if "track" not in case.main.raw:
        return Story(
            f"{where(case.about.span)} was asked for, and that is no range that Linux can reserve: it goes "
            "beyond what an address can be, or ends where it begins",
            f"{linux_source.in_memtype(case.dump.kernel, 'memtype_reserve')} gives EINVAL for a range whose "
            "end, without the bits that no address has, isn't behind its start",
            "no: nothing was mapped",
        )
    said_why = [number for each in case.dump.of(Kind.CONFLICTING_TYPES) for number in each.lines]
    said_why += [each.number for each in case.dump.cut]
    why = (
        f"line {min(said_why)} may say why"
        if said_why
        else "the line above this one, which the text lacks, says why"
    )
    return Story(
        f"{where(case.about.span)} was asked for as {said(case.about.asked)}, and Linux couldn't reserve "
        f"it; {why}",
        f"{linux_source.in_memtype(case.dump.kernel, 'memtype_reserve')} refuses what is partly RAM "
        "(EINVAL), and memory that has two types, or another type than the only one that the caller takes "
        "(EBUSY)",
        "no: nothing was mapped",
    )


def _reserved(case: _Case) -> Story:
    asked, granted = case.main.asked, case.main.granted
    told = f"{where(case.about.span)} was asked for as {said(asked)}"
    place = linux_source.in_memtype(case.dump.kernel, "memtype_reserve")
    if granted is None or granted is asked:
        return Story(f"{told}, and reserved so", place, "nothing in the text is a sign of danger")
    if asked is MemType.WB:
        why = "what isn't write-back by the MTRRs, or is mapped with another type, isn't given as write-back"
        return Story(
            f"{told}, and given as {said(granted)}", f"{why} ({place})", "no: it is slower, and not wrong"
        )
    return Story(
        f"{told}, and as somebody has it as {said(granted)}, it was given as that",
        f"a request takes the type of the reservations that it overlaps, unless "
        f"{linux_source.new_memtype_allowed(case.dump.kernel)} forbids it afterwards ({place})",
        "no: every mapping of the memory has the same type",
        ("who needs another type has to come first, or ask whoever has the memory for it",),
    )


def _ram_reserve(case: _Case) -> Story:
    held = case.main.held[0] if case.main.held else None
    return Story(
        f"the RAM {where(case.about.span)} was to become {said(case.about.asked)}, but a page of it is "
        f"{said(held)} already: somebody else has changed it and not changed it back",
        "the type of RAM is kept in two flags of each page, without a count: a page that isn't write-back "
        "is somebody's, even if it is of the type asked for "
        f"({linux_source.in_memtype(case.dump.kernel, 'reserve_ram_pages_type')})",
        "no: nothing was changed",
        ("the first user has to call set_memory_wb() before the next one asks",),
    )


def _freeing(case: _Case) -> Story:
    if case.about.span is not None and case.about.span.end >> 52:
        return Story(
            f"{who(case.main)} gave back {where(case.about.span)}, which is no physical address: its sign "
            "was extended",
            f"{linux_source.free(case.dump.kernel)} found no reservation for it",
            "nothing in the text is a sign of danger",
        )
    since = linux_source.is_newer(case.dump.kernel, 6, 16)
    how = "exactly that range" if since else "exactly that range, or one that is longer and ends there"
    return Story(
        f"{who(case.main)} gave back {where(case.about.span)}, and Linux has no reservation of that: what "
        "was reserved for the mapping has another size by now, or was given back before",
        f"a reservation is found by {how} ({linux_source.free(case.dump.kernel)})",
        "maybe: if the reservation was given back too early, others can map memory with another type while "
        "it is still mapped; if it stays behind, memory is only kept from having other types until the "
        "next boot",
        (
            "compare /sys/kernel/debug/x86/pat_memtype_list before the program starts and after it has ended",
            "6.16 and later count the pieces of a mapping; there are no such messages any more",
        ),
    )


def _user_refused(case: _Case) -> Story:
    held = case.main.held[0] if len(case.main.held) == 1 else None
    if case.main.asked is not None and held is not None and (case.main.asked, held) not in REFUSED_PAIRS:
        return _fork_refused(case, held)
    return Story(
        f"{who(case.main)} wanted to map {where(case.about.span)} as {said(case.main.asked)}, and it is "
        f"reserved as {said(held)} already: the mapping was refused (EINVAL)",
        f"{linux_source.in_memtype(case.dump.kernel, 'reserve_pfn_range')}: a mapping gets the type that is "
        f"there, unless {linux_source.new_memtype_allowed(case.dump.kernel)} forbids it, and it forbids to "
        f"give {said(held)} to who asked for {said(case.main.asked)}",
        "no: the refusal is what keeps one page from having two types",
        _ABOUT_WB_FIRST if held is MemType.WB else (),
    )


def _fork_refused(case: _Case, held: MemType) -> Story:
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
        f"no other type than its parent's ({linux_source.in_memtype(case.dump.kernel, 'track_pfn_copy')}, "
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


def _devmem_type(case: _Case) -> Story:
    other = said(case.main.held[0]) if case.main.held else "another type"
    return Story(
        f"{who(case.main)} has {where(case.about.span)} of /dev/mem mapped as {said(case.main.asked)}, and "
        f"it was reserved as {other}: Linux only says so",
        "arch/x86/mm/pat.c, map_devmem(), until 2.6.29: the reservation's answer is compared, and nothing is "
        "undone",
        "maybe: the page table and the list of reservations disagree about the memory",
        ("2.6.30 and later refuse such a mapping, or give it the type that is there",),
    )


def _user_ram(case: _Case) -> Story:
    return Story(
        f"{who(case.main)} has {where(case.about.span)} mapped, which is RAM, as {said(case.main.granted)}, "
        f"and not as {said(case.main.asked)}, which the driver had asked for. The line only says that the "
        "wish was passed over",
        "RAM that is mapped into a process keeps the type that its pages have, whatever the page "
        f"protection says ({linux_source.in_memtype(case.dump.kernel, 'reserve_pfn_range')})",
        "no: process and kernel have the same type, which is why Linux does it",
        (
            "a driver that wants another type has to change the pages first, with set_memory_wc() or "
            "set_memory_uc()",
            "memory of dma_alloc_coherent() is mapped with dma_mmap_coherent(), which asks for the type "
            "that it has",
            "on x86 devices see what the caches hold, so write-back is right for most DMA buffers",
        ),
    )


def _ioremap_refused(case: _Case) -> Story:
    held = case.main.held[0] if case.main.held else None
    return Story(
        f"a driver asked for {where(case.about.span)} as {said(case.main.asked)}, and somebody had it as "
        f"{said(held)} already: ioremap() gave NULL, which most drivers make error -12 (ENOMEM) of",
        f"{linux_source.ioremap(case.dump.kernel)}: a mapping gets the type that is there, unless "
        f"{linux_source.new_memtype_allowed(case.dump.kernel)} forbids it, and it forbids to give "
        f"{said(held)} to who asked for {said(case.main.asked)}",
        "no: the refusal is what keeps one page from having two types. The driver doesn't work",
        _ABOUT_WB_FIRST if held is MemType.WB else (),
    )


def _ioremap_failed(case: _Case) -> Story:
    why = {
        16: "the memory has two types, or a page of RAM is somebody's (EBUSY)",
        22: "the range is partly RAM, or no range (EINVAL)",
    }
    return Story(
        f"ioremap() of {where(case.about.span)} failed: "
        f"{why.get(case.main.errno or 0, 'the memory could not be reserved')}",
        f"{linux_source.ioremap(case.dump.kernel)}, after "
        f"{linux_source.in_memtype(case.dump.kernel, 'memtype_reserve')}",
        "no: nothing was mapped",
    )


def _ioremap_ram(case: _Case) -> Story:
    return Story(
        f"a driver asked for {where(case.about.span)} with ioremap(), and that is RAM: it got NULL",
        "RAM has a mapping of the kernel's already, and its pages one type; ioremap() refuses it "
        f"({linux_source.ioremap(case.dump.kernel)}). The warning comes once a boot, the refusal each time",
        "no: the refusal is what keeps one page from having two types",
        (
            "memremap() is the function for RAM",
            "RAM that is to be a device's is kept from the kernel with memmap= or by the firmware",
        ),
    )


def _ioremap_beyond(case: _Case) -> Story:
    return Story(
        "a driver asked ioremap() for an address that this CPU hasn't got: its physical addresses have "
        "fewer bits",
        f"{linux_source.ioremap(case.dump.kernel)}, phys_addr_valid()",
        "no: nothing was mapped",
        ("compare the address with a BAR's: a device that isn't configured reads as all ones",),
    )


def _memremap(case: _Case) -> Story:
    what = "is RAM" if case.main.kind is Kind.MEMREMAP_ON_RAM else "is partly RAM and partly not"
    return Story(
        f"memremap() was asked for {where(case.about.span)}, which {what}: it gave NULL",
        "kernel/iomem.c, memremap(): RAM is only had write-back, as the kernel has it, and a mixed range "
        "not at all",
        "no: nothing was mapped",
    )


def _change_failed(case: _Case) -> Story:
    return Story(
        f"the kernel's own mapping of {where(case.about.span)} couldn't be changed to "
        f"{said(case.main.asked)}, so the request of {who(case.main)} was refused",
        linux_source.in_memtype(case.dump.kernel, "memtype_kernel_map_sync"),
        "no: the refusal is what keeps one page from having two types",
    )


def _devmem(case: _Case) -> Story:
    return Story(
        f"{who(case.main)} wanted {where(case.about.span)} of /dev/mem, which isn't allowed, as it is RAM "
        "or a driver's: mmap() failed",
        linux_source.in_memtype(case.dump.kernel, "phys_mem_access_prot_allowed"),
        "no: nothing was mapped",
    )


def _warning(case: _Case) -> Story:
    below = f", called by {', '.join(f'{each}()' for each in case.main.trace[:4])}" if case.main.trace else ""
    extra = ""
    if case.main.function in ("get_pat_info", "untrack_pfn"):
        extra = (
            ": the type and the address of a mapping's reservation couldn't be read from its page table, "
            "so it was not given back"
        )
    return Story(
        f"{case.main.function}() has warned{extra}{below}",
        f"the place is in the line: {case.main.raw}",
        "maybe: a reservation stays behind, or memory is tracked wrongly from then on",
    )


def _mtrr_mismatch(case: _Case) -> Story:
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
    if listing is None or about.span is None:
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


def _mtrr_overlap(case: _Case) -> Story:
    return Story(
        f"a variable MTRR was to cover {where(case.about.span)}, which overlaps {where(case.main.other)} of "
        "another register in part: it was refused",
        "arch/x86/kernel/cpu/mtrr/mtrr.c, mtrr_add_page()",
        "no: the memory stays as it is",
        ("drivers of today use ioremap_wc() and the PAT, and need no MTRR",),
    )


_MTRR_FULL: Final = Story(
    "a variable MTRR was asked for, and all of the CPU's are in use",
    "arch/x86/kernel/cpu/mtrr/mtrr.c, mtrr_add_page()",
    "no: the memory stays as it is",
    (
        "enable_mtrr_cleanup on the kernel's command line may free registers",
        "drivers of today use the PAT, and need no MTRR",
    ),
)


def _mtrr_refused(case: _Case) -> Story:
    return Story(
        f"a request to the MTRRs was refused: {case.main.raw}",
        "arch/x86/kernel/cpu/mtrr/mtrr.c, mtrr_check() and mtrr_add_page(): base and size are whole pages, "
        "the size is a power of two, the base a multiple of it",
        "no: the memory stays as it is",
    )


def _wc_failed(case: _Case) -> Story:
    return Story(
        f"a driver got no write-combining MTRR for {where(case.about.span)}; the text doesn't say why",
        "arch/x86/kernel/cpu/mtrr/mtrr.c, arch_phys_wc_add() and mtrr_add_page()",
        "no: without a PAT writes to that memory are slow",
        ("look at /proc/mtrr: a free register is needed, and no other type that the range lies in",),
    )


def _inconsistent(case: _Case) -> Story:
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


def _cleanup_failed(case: _Case) -> Story:
    count = len(case.dump.mtrr.variable) if case.dump.mtrr is not None else 0
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


def _firmware(case: _Case) -> Story:
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


def _sanity(case: _Case) -> Story:
    other = "another resource"
    if case.main.other is not None:
        other = f"{case.main.other.name} ({where(case.main.other)})"
    return Story(
        f"{who(case.main)} mapped {where(case.about.span)}, which is a part of {other} and more than that. "
        "It is allowed; the line is a warning",
        "kernel/resource.c, iomem_map_sanity_check()",
        "no sign of it: the driver may touch registers that aren't its own",
    )


def _mtrr_off(case: _Case) -> Story:
    newer = linux_source.is_newer(case.dump.kernel, 6, 2)
    given = ""
    if case.about.span is not None and case.about.granted is not None:
        given = f": {where(case.about.span)} is {said(case.about.granted)}"
    pat = {
        True: "the PAT is used all the same",
        False: "the PAT isn't set up either: it is as at reset, without write-combining",
        None: "before 6.2 the PAT isn't set up then either",
    }[newer]
    writeback = ""
    if linux_source.is_newer(case.dump.kernel, 6, 1):
        writeback = (
            ", and who asks for write-back gets uncached (UC-), as no MTRR says that the memory may be cached"
        )
    return Story(
        f"the MTRRs are off, or the CPU has none; {pat}{writeback}{given}",
        f"{linux_source.in_memtype(case.dump.kernel, 'pat_x_mtrr_type')}: a request for write-back is only "
        "granted where the MTRRs say write-back"
        if writeback
        else "arch/x86/kernel/cpu/mtrr/mtrr.c, mtrr_bp_init()",
        "no: memory is slow, and not wrong",
        (
            "whoever makes the machine (the VMM) can turn the MTRRs on with write-back for a default: "
            "IA32_MTRR_DEF_TYPE = 0x806",
        ),
    )


def _pat_off(case: _Case) -> Story:
    return Story(
        f"the PAT isn't used: {case.main.raw}. There is no write-combining by page table then, and Linux "
        "keeps no list of reservations",
        linux_source.in_memtype(case.dump.kernel, "pat_disable"),
        "maybe: nobody checks that mappings of one page have one type",
    )


def _huge(case: _Case) -> Story:
    return Story(
        f"{where(case.about.span)} is mapped with small pages, as the MTRRs have more than one type there, "
        "or not write-back",
        "arch/x86/mm/pgtable.c, pmd_set_huge() and pud_set_huge()",
        "no",
    )


def _cpa(case: _Case) -> Story:
    return Story(
        f"a change of page attributes met something unexpected: {case.main.raw}",
        "arch/x86/mm/pat/set_memory.c (pageattr.c before 5.6), __change_page_attr()",
        "maybe; the line alone doesn't say",
    )


_STORIES: Final[dict[Kind, Story | Callable[[_Case], Story]]] = {
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
    Kind.IOREMAP_BEYOND: _ioremap_beyond,
    Kind.MEMREMAP_ON_RAM: _memremap,
    Kind.MEMREMAP_MIXED: _memremap,
    Kind.CHANGE_FAILED: _change_failed,
    Kind.DEVMEM_REFUSED: _devmem,
    Kind.SANITY: _sanity,
    Kind.HUGE_PAGE: _huge,
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
    Kind.CPA: _cpa,
    Kind.WARNING: _warning,
}
