"""Formats of the first lines of the kernel's reports, and of the lines that may follow.

Patterns match whole messages, that is, lines without the prefix of printk. Each stands for one format
string of the kernel; files are those of Linux 6.12 where no other version is named.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class ReportKind(StrEnum):
    """The kind of event that a report is about.

    An allocation failure is a report, an out-of-memory kill isn't: the kernel survives it by design.
    """

    PANIC = "panic"
    BUG = "bug"
    OOPS = "oops"
    NULL_DEREFERENCE = "null-dereference"
    PAGE_FAULT = "page-fault"
    GENERAL_PROTECTION = "general-protection"
    STACK_OVERFLOW = "stack-overflow"
    LIST_CORRUPTION = "list-corruption"
    SLAB_CORRUPTION = "slab-corruption"
    BAD_PAGE = "bad-page"
    USERCOPY = "usercopy"
    BUFFER_OVERFLOW = "buffer-overflow"
    KASAN = "kasan"
    KFENCE = "kfence"
    UBSAN = "ubsan"
    WARNING = "warning"
    MSR_ACCESS = "msr-access"
    ATOMIC_CONTEXT = "atomic-context"
    ALLOCATION_FAILURE = "allocation-failure"
    SOFT_LOCKUP = "soft-lockup"
    HARD_LOCKUP = "hard-lockup"
    RCU_STALL = "rcu-stall"
    HUNG_TASK = "hung-task"


#: A code address as ``%pS`` prints it.
FUNCTION: Final = r"(?P<function>[\w.]+)\+0x[0-9a-f]+/0x[0-9a-f]+(?: \[[^\]]+\])?"


@dataclass(frozen=True)
class Header:
    """The first line of a report, as a pattern.

    :param kind: The kind of report that it begins.
    :param pattern: The pattern of the whole message.
    :param title: The report's title, filled with the pattern's groups, ``{site}``, the function that the
        processor was in, and ``{function}``, unless that is a group: the function at fault, which called the
        one that found it.
    :param traced: Whether the report ends with its stack trace. False for a report that ends with a line of
        its own.
    :param running: Whether the report is about what its CPU was running, which isn't what prints it.
    """

    kind: ReportKind
    pattern: re.Pattern[str]
    title: str
    traced: bool = False
    running: bool = False


def _header(
    kind: ReportKind, pattern: str, title: str, *, traced: bool = False, running: bool = False
) -> Header:
    return Header(kind, re.compile(pattern), title, traced=traced, running=running)


_Kind = ReportKind

HEADERS: Final = (
    # kernel/panic.c, __warn(). 7.3 has it turned round, with the task at its end.
    _header(
        _Kind.WARNING,
        rf"WARNING: CPU: \d+ PID: \d+ at (?P<place>\S+:\d+) {FUNCTION}",
        "WARNING in {function} at {place}",
    ),
    _header(
        _Kind.WARNING,
        rf"WARNING: (?P<place>\S+:\d+) at {FUNCTION}, CPU#\d+: .+/\d+",
        "WARNING in {function} at {place}",
    ),
    # lib/bug.c, report_bug().
    _header(_Kind.BUG, r"kernel BUG at (?P<place>\S+:\d+)!", "kernel BUG in {site} at {place}"),
    # arch/x86/mm/fault.c, show_fault_oops().
    _header(
        _Kind.NULL_DEREFERENCE,
        r"BUG: kernel NULL pointer dereference, address: [0-9a-f]+",
        "NULL pointer dereference in {function}",
    ),
    _header(
        _Kind.PAGE_FAULT,
        r"BUG: unable to handle page fault for address: [0-9a-f]+",
        "page fault in {function}",
    ),
    # arch/x86/kernel/traps.c, handle_stack_overflow(); 5.10 doesn't say whose stack.
    _header(
        _Kind.STACK_OVERFLOW,
        r"BUG: (?:\S+ )?stack guard page was hit at .+ \(stack is .+\)",
        "stack overflow in {function}",
    ),
    # lib/list_debug.c.
    _header(_Kind.LIST_CORRUPTION, r"list_(?:add|del) corruption.+", "list corruption in {function}"),
    # mm/usercopy.c, usercopy_abort().
    _header(
        _Kind.USERCOPY,
        r"usercopy: Kernel memory (?P<what>exposure|overwrite) attempt detected (?:from|to) .+!",
        "kernel memory {what} in {function}",
    ),
    # lib/string_helpers.c, fortify_panic(), of 5.10 and 6.1; 6.12 prints a WARNING and a BUG.
    _header(
        _Kind.BUFFER_OVERFLOW,
        r"detected buffer overflow in (?P<what>\w+)",
        "buffer overflow by {what} in {function}",
    ),
    # mm/kasan/report.c and mm/kfence/report.c. No Debian kernel has KASAN.
    _header(_Kind.KASAN, rf"BUG: KASAN: (?P<what>.+) in {FUNCTION}", "KASAN: {what} in {function}"),
    _header(_Kind.KFENCE, rf"BUG: KFENCE: (?P<what>.+) in {FUNCTION}", "KFENCE: {what} in {function}"),
    # lib/ubsan.c, ubsan_prologue().
    _header(_Kind.UBSAN, r"UBSAN: (?P<what>\S+) in (?P<place>\S+?:\d+)(?::\d+)?", "UBSAN: {what} at {place}"),
    # mm/slub.c, slab_bug().
    _header(
        _Kind.SLAB_CORRUPTION,
        r"BUG (?P<cache>\S+) \((?:Not tainted|Tainted: [^)]*)\): (?P<what>[^.]+).*",
        "slab corruption in {cache}: {what}",
        traced=True,
    ),
    # mm/page_alloc.c, bad_page(), and mm/memory.c, print_bad_pte().
    _header(
        _Kind.BAD_PAGE,
        r"BUG: Bad page (?P<what>state|map) in process (?P<task>.+?) +(?:pfn|pte|p[m4ug]d):[0-9a-f]+.*",
        "bad page {what} in process {task}",
        traced=True,
    ),
    # arch/x86/mm/extable.c, ex_handler_msr().
    _header(
        _Kind.MSR_ACCESS,
        r"unchecked MSR access error: (?P<what>RDMSR from|WRMSR to) (?P<msr>0x[0-9a-f]+) .*\bat rIP: .*",
        "unchecked {what} {msr} in {function}",
        traced=True,
    ),
    # kernel/sched/core.c, __schedule_bug() and __might_resched(); kernel/workqueue.c, process_one_work().
    _header(
        _Kind.ATOMIC_CONTEXT,
        r"BUG: scheduling while atomic: .+/\d+/0x[0-9a-f]+",
        "scheduling while atomic in {function}",
        traced=True,
    ),
    _header(
        _Kind.ATOMIC_CONTEXT,
        r"BUG: sleeping function called from invalid context at (?P<place>\S+:\d+)",
        "sleeping function called from invalid context at {place}",
        traced=True,
    ),
    _header(
        _Kind.ATOMIC_CONTEXT,
        r"BUG: workqueue leaked (?:lock or atomic|atomic, lock or RCU): .+",
        "workqueue item left atomic",
        traced=True,
    ),
    # mm/page_alloc.c, warn_alloc().
    _header(
        _Kind.ALLOCATION_FAILURE,
        r"(?P<task>.+): page allocation failure: order:(?P<order>\d+), mode:0x[0-9a-f]+\(.*",
        "page allocation failure of order {order} in {task}",
        traced=True,
    ),
    # kernel/watchdog.c.
    _header(
        _Kind.SOFT_LOCKUP,
        r"watchdog: BUG: soft lockup - CPU#\d+ stuck for \d+s! \[.+:\d+\]",
        "soft lockup in {function}",
        traced=True,
        running=True,
    ),
    _header(
        _Kind.HARD_LOCKUP,
        r"(?:NMI )?watchdog: (?:CPU\d+: )?Watchdog detected hard LOCKUP on cpu \d+",
        "hard lockup in {function}",
        traced=True,
        running=True,
    ),
    # kernel/rcu/tree_stall.h and tree_exp.h.
    _header(
        _Kind.RCU_STALL,
        r"rcu: INFO: \w+ (?:self-)?detected (?:expedited )?stalls? on CPUs?\b.*",
        "RCU stall in {function}",
        traced=True,
        running=True,
    ),
    # kernel/hung_task.c, check_hung_task().
    _header(
        _Kind.HUNG_TASK,
        r"INFO: task (?P<task>.+):\d+ blocked(?: in I/O wait)? for more than \d+ seconds\.",
        "task {task} hung in {function}",
        traced=True,
    ),
    # arch/x86/kernel/dumpstack.c, __die_header(); 6.1 has no "Oops: " before a cause. As a header
    # of its own it has a cause, else it follows one of the above.
    _header(
        _Kind.GENERAL_PROTECTION,
        r"(?:Oops: )?general protection fault(?:, .+)?: [0-9a-f]{4} \[#\d+\].*",
        "general protection fault in {function}",
    ),
    _header(
        _Kind.OOPS,
        r"(?:Oops: )?(?P<what>[\w ,:()-]+): [0-9a-f]{4} \[#\d+\].*",
        "{what} in {function}",
    ),
    # kernel/panic.c, panic().
    _header(_Kind.PANIC, r"Kernel panic - not syncing: (?P<what>.*)", "kernel panic: {what}"),
)

#: Kinds of headers that may follow another header of the same event.
FOLLOWING: Final = frozenset(
    {ReportKind.OOPS, ReportKind.GENERAL_PROTECTION, ReportKind.BUG, ReportKind.WARNING}
)

#: Panics that only carry out what a report before them asked for (kernel/panic.c, kernel/exit.c,
#: kernel/watchdog.c, kernel/hung_task.c, kernel/rcu/tree_stall.h, arch/x86/kernel/dumpstack.c).
CONSEQUENCE: Final = re.compile(
    r"Fatal exception.*|.*panic_on_warn set.*|softlockup: hung tasks|Hard LOCKUP|hung_task: blocked tasks"
    r"|RCU Stall.*|Aiee, killing interrupt handler!|Attempted to kill (?:the idle task|init)!.*"
)

#: Where a report may begin before its header: cut here, and the rules of KASAN, KFENCE and SLUB.
OPENING: Final = re.compile(r"-{12}\[ cut here \]-{12}|={50,}")

END_TRACE: Final = re.compile(r"---\[ end trace (?:[0-9a-f]+ )?\]---")

RULE: Final = re.compile(r"={50,}")

END_PANIC: Final = re.compile(r"---\[ end Kernel panic .*")

BOOT: Final = re.compile(r"Linux version \d.*")

#: Lines that follow the header of every real report: without them it is only text.
STRUCTURE: Final = re.compile(
    r"CPU: \d+ (?:UID: \d+ )?PID: \d+ .*|RIP: [0-9a-f]{4}:.*|Call Trace:|task:\S.* state:\w.*"
)

#: The line of a die, which begins with its cause.
DIE: Final = re.compile(r".+: [0-9a-f]{4} \[#\d+\].*")

RIP: Final = re.compile(rf"RIP: 0010:{FUNCTION}")

FRAME: Final = re.compile(rf" (?P<guess>\? )?{FUNCTION}(?: \(.*\))?")

#: Lines that follow a stack trace and still belong to its report.
REST: Final = re.compile(
    rf"{STRUCTURE.pattern}|{FRAME.pattern}| (?:\? )?0x[0-9a-f]+| </?[A-Z_#0-9]+>|Code: .*"
    r"|(?:RSP|R[A-DS][XIP]|RBP|R[0-9]{2}|[CDEFG]S|CR\d|DR\d|PKRU|EFLAGS):? .*|Hardware name: .*"
    r"|Modules linked in:.*|Tainted: .*|Workqueue: .*|Sending NMI .*|NMI backtrace for .*|rcu: .*"
    r"|Task dump for CPU \d+:|FIX \S+: .*|Disabling lock debugging due to kernel taint|note: .*"
    r"|INFO: lockdep is turned off\.|Shutting down cpus with NMI|Kernel Offset: .*|Rebooting in .*"
    r"|---\[ end .*|Future hung task reports are suppressed.*|\s*"
)

#: Functions that find the fault or wait, never where it is.
HELPERS: Final = re.compile(
    r"_*(?:dump_stack|show_stack|panic|list_(?:add|del)|refcount_warn|usercopy_abort|check_heap_object"
    r"|check_object_size|check_\w*slab_object|fortify|copy_overflow|schedule|preempt_schedule|io_schedule"
    r"|schedule_timeout|wait_for_completion|mutex_lock|rwsem_down|down_(?:read|write)|rt_mutex)\w*"
)
