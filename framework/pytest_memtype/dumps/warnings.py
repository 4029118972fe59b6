"""WARNINGs of the functions that have to do with memory types, with their stacks."""

from __future__ import annotations

import re
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
        r"(?:, CPU#\d+: (?P<process>.{1,15}?)/(?P<pid>\d{1,10}))?",
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
    r"|(?= [\w/.-]{1,100}\.[ch]:\d))"
)
#: A stack that people cut out of a report may have lost the line "Call Trace:" above it.
_LONE_FRAME: Final = re.compile(rf"{_FRAME.pattern}(?: \[[\w-]+\])?\s*$")
#: Where the CPU was: in the function that warns.
_PLACE: Final = re.compile(r"^\s*[RE]IP: .*\b(?P<function>[A-Za-z_][\w.]{0,120})\+0x[0-9a-f]+/0x[0-9a-f]+")
_COMM: Final = re.compile(
    r"\bCPU: \d+ (?:UID: \d+ )?PID: (\d{1,10}) Comm: (.{1,15}?) (?:Not tainted|Tainted:|Kdump:)"
)
_OLD_COMM: Final = re.compile(r"\bPid: (\d{1,10}), comm: (.{1,15}?) (?:Not tainted|Tainted:)")
_SUFFIX: Final = re.compile(r"\.(?:isra|part|cold|constprop)[.\w]*$")

_MOST_ROWS: Final = 200
_MOST_FRAMES: Final = 64


def warnings(cursor: Cursor) -> list[Complaint]:
    """The WARNINGs of a text that have to do with memory types."""
    found = []
    for index, row in enumerate(cursor.rows):
        hit = cursor.search(index, *_HEADERS) if "WARNING: " in row.message else None
        if hit is None:
            continue
        match, count = hit
        function = _SUFFIX.sub("", match["function"])
        if _PLACES.search(match["file"]) or _FUNCTIONS.match(function):
            cursor.use(index, count)
            found.append(_warning(cursor, index, count, match, function))
    return found


def _warning(cursor: Cursor, index: int, count: int, match: re.Match[str], function: str) -> Complaint:
    row = cursor.rows[index]
    groups = match.groupdict()
    process, pid = groups.get("process"), groups.get("pid")
    trace: list[str] = []
    traced, placed = False, False
    end = index + count
    for number in range(end, min(end + _MOST_ROWS, len(cursor.rows))):
        message = cursor.rows[number].message
        if "---[ end trace" in message or "WARNING: " in message or "cut here" in message:
            break
        comm = _COMM.search(message) or _OLD_COMM.search(message)
        if comm is not None and process is None:
            process, pid = comm[2], comm[1]
        if "Call Trace:" in message:
            traced, end = True, number + 1
            cursor.use(number)
            continue
        place = _PLACE.match(message)
        if place is not None and not traced and _SUFFIX.sub("", place["function"]) == function:
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
            break
        cursor.use(number)
        name = _SUFFIX.sub("", frame["function"])
        if (
            not frame["unsure"]
            and len(trace) < _MOST_FRAMES
            and not (name.startswith("warn_slowpath") or name == function)
        ):
            trace.append(name)
        if not frame["unsure"] and name == function:
            # What printed the trace stands first as of 4.4: dump_stack().
            trace.clear()
    return Complaint(
        Kind.WARNING,
        row.number,
        match[0][:400],
        time=row.time,
        process=process,
        pid=int(pid) if pid else None,
        function=function,
        trace=tuple(trace),
        lines=tuple(each.number for each in cursor.rows[index : index + count]),
    )
