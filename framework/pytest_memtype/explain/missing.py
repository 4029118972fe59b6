"""Gaps in a report: facts that would help to say more, and the commands that would tell them."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_memtype.dumps.facts import Complaint, Dump, Kind
from pytest_memtype.dumps.main_complaint import MEMORY
from pytest_memtype.explain import linux_source
from pytest_memtype.explain.architecture import is_no_x86
from pytest_memtype.explain.machine_map import owner_of
from pytest_memtype.explain.subject import Subject
from pytest_memtype.explain.warning_stories import is_of_reservations
from pytest_memtype.x86.memtype import MemType

_LIST = "/sys/kernel/debug/x86/pat_memtype_list"


#: Complaints of memory that the list of reservations has nothing to do with.
_NO_RESERVATION = frozenset(
    {
        Kind.USER_RAM,
        Kind.IOREMAP_ON_RAM,
        Kind.IOREMAP_BEYOND,
        Kind.MEMREMAP_ON_RAM,
        Kind.MEMREMAP_MIXED,
        Kind.DEVMEM_REFUSED,
        Kind.BUG,
    }
)


def _is_of_reservations(main: Complaint) -> bool:
    if main.kind is Kind.WARNING:
        return is_of_reservations(main)
    return main.kind in MEMORY - _NO_RESERVATION


def _traced(dump: Dump) -> str:
    """The command that prints the stack of each reservation, on kernels that may be as new as it needs."""
    known = linux_source.age(dump)
    # bpftrace's INSTALL.md: stacks since 4.6, and nothing below 4.9 is tested.
    if linux_source.is_newer(known, 4, 9) is False:
        return ""
    newer = linux_source.is_newer(known, 5, 6)
    name = "reserve_memtype" if newer is False else "memtype_reserve"
    doubts = [
        *(["4.9 and later"] if linux_source.is_newer(known, 4, 9) is None else []),
        *(["reserve_memtype before 5.6"] if newer is None else []),
    ]
    return (
        f", or print the stack of each with bpftrace -e 'kprobe:{name} "
        '{ printf("%s %llx-%llx %s", comm, arg0, arg1, kstack) }\''
        + (f" ({'; '.join(doubts)})" if doubts else "")
    )


def missing(dump: Dump, about: Subject) -> Iterator[str]:
    """Facts that would help to say more, a sentence each with the command that tells it."""
    if about.main is None and about.span is None and not dump.mtrrs:
        return
    if dump.kernel is None or not dump.kernel.exact:
        yield "the kernel's exact version: cat /proc/version"
    main = about.main
    if about.span is not None:
        owners = owner_of(dump, about.span)
        if not owners:
            yield "whose memory it is: cat /proc/iomem as root, and lspci -v"
        elif (
            main is not None
            and main.kind is Kind.SANITY
            and not any(span.contains(about.span) for _, span in owners)
        ):
            yield "whose the rest of it is: cat /proc/iomem as root, and lspci -v"
    if main is not None and _is_of_reservations(main) and not is_no_x86(dump):
        if not dump.entries_shown:
            yield f"what is reserved there: cat {_LIST} as root"
        if about.held:
            yield f"who holds it: boot with debugpat, which logs each reservation{_traced(dump)}"
    wants_mtrrs = MemType.WB in about.held or (main is not None and main.kind.value.startswith("mtrr"))
    if wants_mtrrs and dump.own_mtrr is None:
        yield "what the MTRRs say: cat /proc/mtrr, or boot 6.5 and later with mtrr=debug and read the log"
    elif dump.own_mtrr is not None and not dump.own_mtrr.complete:
        yield f"registers that the text lacks: all lines of {dump.own_mtrr.source}"
    elif dump.own_mtrr is not None and dump.own_mtrr.default is None:
        yield "the default type and the fixed ranges: boot 6.5 and later with mtrr=debug and read the log"
    freed = main is not None and main.kind is Kind.FREEING_INVALID
    if freed and not dump.user_calls:
        yield "what the program did with the mapping: strace -f -e trace=memory,process"
