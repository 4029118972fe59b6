"""WARNINGs of the functions that have to do with memory types, with their stacks."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from pytest_memtype.dumps.facts import Complaint, Kind
from pytest_memtype.dumps.text import Cursor

_FUNCTION: Final = r"(?P<function>[A-Za-z_][\w.]{0,120})(?:\+0x[0-9a-f]{1,8}/0x[0-9a-f]{1,8})?"
# __warn() and report_bug() (kernel/panic.c, lib/bug.c): the first until 2.6.39, the third since 6.18.
_HEADERS: Final = tuple(
    re.compile(pattern)
    for pattern in (
        rf"\bWARNING: at (?P<file>[\w./+~-]{{1,200}}):(?P<number>\d{{1,6}}) {_FUNCTION}",
        rf"\bWARNING: CPU: \d+ PID: (?P<pid>\d{{1,10}}) at (?P<file>[\w./+~-]{{1,200}}):"
        rf"(?P<number>\d{{1,6}}) {_FUNCTION}",
        rf"\bWARNING: (?P<file>[\w./+~-]{{1,200}}):(?P<number>\d{{1,6}}) at {_FUNCTION}"
        r"(?:,(?: CPU#\d+:(?: (?P<process>.{1,15}?)/(?P<pid>\d{1,10})(?![\d/:]))?)?)?",
    )
)
_PLACES: Final = re.compile(
    r"arch/x86/mm/(?:pat|pat_rbtree|pat_interval|ioremap|pageattr|set_memory|pgtable)\.c|arch/x86/mm/pat/"
    r"|/mtrr/|kernel/iomem\.c|mm/memremap\.c"
)
_FUNCTIONS: Final = re.compile(
    r"^(?:get_pat_info|untrack_pfn\w*|track_pfn\w*|memtype_\w+|reserve_memtype|free_memtype"
    r"|reserve_ram_pages_type"
    r"|__ioremap_caller|ioremap\w*|iounmap|memremap\w*|__change_page_attr\w*|change_page_attr\w*"
    r"|set_memory_\w+|_set_memory_\w+"
    r"|mtrr_\w+|pfnmap_\w+|is_new_memtype_allowed|generic_set_mtrr|x86_pat\w*)$"
)
_FRAME: Final = re.compile(
    r"^\s*(?:\[?<[0-9a-f]{8,16}>\]? ?)?(?P<unsure>\? )?(?P<function>[A-Za-z_][\w.]{0,120})"
    r"(?:\+0x[0-9a-f]{1,8}/0x[0-9a-f]{1,8}"
    # decode_stacktrace.sh writes "(FILE:LINE)" in their place, "(discriminator 3)" behind it, or "(??:?)".
    r"|(?= \(?[\w/.-]{1,100}\.[chS]:\d| \(\?\?:))"
)
#: A stack that people cut out of a report may have lost the line "Call Trace:" above it.
_LONE_FRAME: Final = re.compile(rf"{_FRAME.pattern}(?: \[[\w-]+\])?\s*$")
PLACE: Final = re.compile(
    r"^\s*[RE]IP(?:: (?:[0-9a-f]{4}:)?| is at | +)(?:\[<[0-9a-f]{8,16}>\] *){0,2}"
    r"(?P<function>[A-Za-z_][\w.]{0,120})(?:\+0x[0-9a-f]+/0x[0-9a-f]+|(?= \([\w/.-]{1,100}\.[chS]:\d))"
)
"""Where the CPU was: ``RIP: 0010:memtype_free+0x1/0x2``; of 2.6 with its address, and ``EIP is at``."""
_COMM: Final = re.compile(
    r"\bCPU: \d+ (?:UID: \d+ )?PID: (\d{1,10}) Comm: (.{1,15}?) (?:Not tainted|Tainted:|Kdump:)"
)
_OLD_COMM: Final = re.compile(r"\bPid: (\d{1,10}), comm: (.{1,15}?) (?:Not tainted|Tainted:)")
#: What prints a stack, or finds that it must.
_PRINTS: Final = re.compile(
    r"^(?:warn_slowpath\w*|__warn\w*|(?:__)?dump_(?:stack|backtrace)\w*|show_(?:stack|trace)\w*|unwind_backtrace"
    r"|report_bug|handle_bug|(?:asm_)?exc_invalid_op|do_invalid_op|invalid_op)$"
)
_SUFFIX: Final = re.compile(r"\.(?:isra|part|cold|constprop)[.\w]*$")

_MOST_ROWS: Final = 200
_MOST_FRAMES: Final = 64


@dataclass(frozen=True)
class Frame:
    """A line of a stack.

    :param name: Its function.
    :param unsure: Whether it is marked ``?``, as the function may be left from an earlier call.
    """

    name: str
    unsure: bool


def frame_of(message: str) -> Frame | None:
    """The function that a line names which is nothing but a line of a stack; None for others."""
    match = _LONE_FRAME.match(message)
    return None if match is None else Frame(without_suffix(match["function"]), bool(match["unsure"]))


#: Of a frame of syzkaller's that a mailer wrapped: "arch/x86/mm/pat/memtype.c:1104".
_PLACES_ALONE: Final = re.compile(r"\s*(?:[\w./+-]{1,100}\.[chS]:\d{1,6}\s{0,4}){1,4}(?:\[inline\])?\s*")


def is_of_memory_types(file: str, function: str) -> bool:
    """Whether a function has to do with memory types, by its name or its file's."""
    return _PLACES.search(file) is not None or _FUNCTIONS.match(function) is not None


def ends_fault(message: str) -> bool:
    """Whether a line is the last of a fault, or the first of the next one, whose registers are its own.

    :param message: The line.
    """
    return any(each in message for each in ("---[ end trace", "cut here", "WARNING: ", "kernel BUG at "))


def without_suffix(function: str) -> str:
    """The name of a function in its source, without what the compiler adds to it."""
    return _SUFFIX.sub("", function)


def warnings(cursor: Cursor) -> list[Complaint]:
    """The WARNINGs of a text that have to do with memory types."""
    found = []
    for index, row in enumerate(cursor.rows):
        hit = cursor.search(index, *_HEADERS) if "WARNING: " in row.message else None
        if hit is None:
            continue
        match, count = hit
        function = without_suffix(match["function"])
        if is_of_memory_types(match["file"], function):
            cursor.use(index, count)
            groups = match.groupdict()
            pid = groups.get("pid")
            warning = Complaint(
                Kind.WARNING,
                row.number,
                match[0][:400],
                time=row.time,
                process=groups.get("process"),
                pid=int(pid) if pid else None,
                function=function,
                lines=tuple(each.number for each in cursor.rows[index : index + count]),
            )
            found.append(with_stack(cursor, index + count, warning))
    return found


def with_stack(cursor: Cursor, end: int, fault: Complaint) -> Complaint:
    """A WARNING or a BUG, with the process and the stack that stand below it.

    :param cursor: The text.
    :param end: Index of the line behind its first one.
    :param fault: The fault without them.
    """
    function = fault.function
    process, pid = fault.process, fault.pid
    trace: list[str] = []
    traced, placed = False, False
    for number in range(end, min(end + _MOST_ROWS, len(cursor.rows))):
        message = cursor.rows[number].message
        if ends_fault(message):
            break
        comm = _COMM.search(message) or _OLD_COMM.search(message)
        if comm is not None and process is None:
            process, pid = comm[2], int(comm[1])
        if "Call Trace:" in message:
            traced, end = True, number + 1
            cursor.use(number)
            continue
        place = PLACE.match(message)
        if place is not None and not traced and without_suffix(place["function"]) == function:
            cursor.use(number)
            placed = True
            continue
        traced = traced or (placed and _LONE_FRAME.match(message) is not None)
        if not traced:
            continue
        frame = _FRAME.match(message)
        if frame is None:
            if message.strip() in ("<TASK>", "<IRQ>", "</IRQ>", "...") or not message.strip():
                continue
            if _goes_on(cursor, number) or _PLACES_ALONE.fullmatch(message):
                continue
            break
        cursor.use(number)
        name = without_suffix(frame["function"])
        if (
            not frame["unsure"]
            and len(trace) < _MOST_FRAMES
            and not (_PRINTS.match(name) or name == function)
        ):
            trace.append(name)
        if not frame["unsure"] and name == function:
            # What printed the trace stands first as of 4.4: dump_stack().
            trace.clear()
    return replace(fault, process=process, pid=pid, trace=tuple(trace))


def _goes_on(cursor: Cursor, index: int) -> bool:
    """Whether a line of the log is another CPU's, in between those of a stack."""
    rows = cursor.rows[index : index + 2]
    return (
        len(rows) == 2
        and all(row.prefixed for row in rows)
        and PLACE.match(rows[0].message) is None
        and _LONE_FRAME.match(rows[1].message) is not None
    )
