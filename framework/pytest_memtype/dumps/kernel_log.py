"""Linux' log on the machine and on itself: command line, e820, CPU, PAT, the map of MTRRs."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from pytest_memtype.dumps.cpu_facts import Cpu
from pytest_memtype.dumps.facts import MtrrMap, Pat, Span
from pytest_memtype.dumps.text import Cursor
from pytest_memtype.dumps.words import TYPE, type_of_word
from pytest_memtype.x86.memtype import MemType

_COMMAND_LINE: Final = re.compile(r"^(?:Kernel c|C)ommand line: ?(.*)$")
_DMI: Final = re.compile(
    r"^DMI: (?!SMBIOS|Memory slots|not present|present)(\S.{1,300})$|^Hardware name: (\S.{1,300})$"
)
_HYPERVISOR: Final = re.compile(
    r"\bHypervisor detected: ([\w .()-]{1,40})|\bBooting paravirtualized kernel on (Xen\w*|KVM|VMware)"
)

# arch/x86/kernel/e820.c, e820__print_table(): with an exclusive end until 3.4; 7.3 has "gap" lines too, and
# says "System RAM" and "device reserved" for usable and reserved.
_E820: Final = re.compile(
    r"\bBIOS-(?:e820|provided physical RAM map): "
    r"(?:\[mem (0x[0-9a-f]{1,16})-(0x[0-9a-f]{1,16})\]\s+(\S.{0,60}?)"
    r"|([0-9a-f]{8,16}) - ([0-9a-f]{8,16}) \(([^)]{1,40})\))\s*$"
)

# "PAT configuration" in pat_init_cache_modes(void), until 4.1, without "x86/PAT: ".
_PAT_CONFIGURATION: Final = re.compile(
    r"\bPAT(?:: C| c)onfiguration \[0-7\]: ((?:(?:WB|WC|UC-|UC|WP|WT)\s*){8})"
)
# 2.6.26 to 3.19: "x86 PAT enabled: cpu 0, old 0x7040600070406, new 0x7010600070106"
_PAT_ENABLED: Final = re.compile(
    r"\bPAT enabled: cpu \d{1,5}, old 0x([0-9a-f]{1,16}), new 0x([0-9a-f]{1,16})"
)

_MAP: Final = re.compile(
    r"\bMTRR map: (\d{1,6}) entries"
    r"(?: \(\d+ fixed \+ \d+ variable; max \d+\), built from (\d{1,6}) variable MTRRs)?"
)
_MAP_ENTRY: Final = re.compile(rf"^\s*(\d{{1,3}}): ([0-9a-f]{{16}})-([0-9a-f]{{16}}) ({TYPE})")

_POISONED: Final = re.compile(r"^Memory failure: 0x([0-9a-f]{1,13}): ")

_CPU0: Final = re.compile(
    r"^(?:smpboot: )?CPU0: (\S.{1,80}?)"
    r"(?: \((?:family|fam): (?:0x)?([0-9a-f]{1,3}), model: (?:0x)?([0-9a-f]{1,3})"
    r"(?:, stepping: (?:0x)?([0-9a-f]{1,2}))?\)| stepping ([0-9a-f]{1,2}))"
)
_CPUS: Final = re.compile(
    r"\b(?:Brought up (?:\d+ nodes?, )?(\d{1,5}) CPUs|Total of (\d{1,5}) processors activated"
    r"|Allowing (\d{1,5}) CPUs, \d+ hotplug|Allowing (\d{1,5}) present CPUs)"
)


def command_line(cursor: Cursor) -> str | None:
    """The kernel's command line, of whose lines the first counts."""
    found: str | None = None
    for index, row in enumerate(cursor.rows):
        match = _COMMAND_LINE.match(row.message.strip()) if "ommand line:" in row.message else None
        if match is None:
            continue
        text, count = match[1].strip(), 1
        # Only what looks like a parameter is a wrapped part of it.
        while count < 20 and index + count < len(cursor.rows):
            following = cursor.rows[index + count]
            piece = following.message.strip()
            if (
                following.prefixed
                or not re.fullmatch(r"[\w.,:/=\"'@+-]+(?: [\w.,:/=\"'@+-]+)*", piece)
                or "=" not in piece
            ):
                break
            text, count = f"{text} {piece}", count + 1
        # It is printed twice: "Command line:", and "Kernel command line:" later.
        cursor.use(index, count)
        found = text if found is None else found
    return found


def machine(cursor: Cursor) -> tuple[str | None, str | None]:
    """The machine as the firmware names it, and the hypervisor that it runs under."""
    name, hypervisor = None, None
    for index, row in enumerate(cursor.rows):
        message = row.message.strip()
        if name is None and ("DMI: " in message or "Hardware name: " in message):
            match = _DMI.match(message)
            if match is not None:
                name = match[1] or match[2]
                cursor.use(index)
        if hypervisor is None and ("ypervisor" in message or "paravirtualized" in message):
            match = _HYPERVISOR.search(message)
            if match is not None:
                hypervisor = (match[1] or match[2]).strip()
                cursor.use(index)
    return name, hypervisor


def e820(cursor: Cursor) -> tuple[Span, ...]:
    """The firmware's map of memory."""
    found = []
    for index, row in enumerate(cursor.rows):
        hit = cursor.search(index, _E820) if "BIOS-" in row.message else None
        if hit is None:
            continue
        match, count = hit
        start, end = int(match[1] or match[4], 16), int(match[2] or match[5], 16) - (match[1] is None)
        name = (match[3] or match[6]).strip()
        if start <= end:
            usual = {"System RAM": "usable", "device reserved": "reserved"}
            found.append(Span(start, end, usual.get(name, name)))
        cursor.use(index, count)
    return tuple(found)


def pat(cursor: Cursor) -> Pat:
    """The PAT as the kernel has set it; where the text has several, as the first."""
    found: Pat | None = None
    for index, row in enumerate(cursor.rows):
        hit = cursor.search(index, _PAT_CONFIGURATION, _PAT_ENABLED) if "PAT" in row.message else None
        if hit is None:
            continue
        match, count = hit
        cursor.use(index, count)
        if found is not None:
            continue
        if match.re is _PAT_ENABLED:
            found = Pat(_slots(int(match[2], 16)), row.number)
            continue
        types = [type_of_word(each) for each in match[1].split()]
        found = Pat(tuple(each for each in types if each is not None), row.number)
    return found or Pat()


def _slots(value: int) -> tuple[MemType, ...]:
    try:
        return tuple(MemType(each & 7) for each in value.to_bytes(8, "little"))
    except ValueError:
        return ()


def mtrr_map(cursor: Cursor) -> MtrrMap | None:
    """The line ``MTRR map``, and the entries that ``mtrr=debug`` prints below it (mtrr_build_map(), 6.5)."""
    for index, row in enumerate(cursor.rows):
        if "MTRR map:" not in row.message:
            continue
        for text, count in cursor.pieces(index):
            match = _MAP.search(text)
            if match is None or (match[2] is None and "(" in text and count < 3):
                continue
            cursor.use(index, count)
            spans = []
            for number in range(index + count, min(index + count + 1000, len(cursor.rows))):
                entry = _MAP_ENTRY.match(cursor.rows[number].message)
                memtype = type_of_word(entry[4]) if entry else None
                if entry is None or memtype is None:
                    break
                cursor.use(number)
                spans.append((Span(int(entry[2], 16), int(entry[3], 16)), memtype))
            return MtrrMap(int(match[1]), int(match[2]) if match[2] else None, tuple(spans), row.number)
    return None


def poisoned(cursor: Cursor) -> tuple[int, ...]:
    """The frame numbers of pages whose memory is faulty, which mm/memory-failure.c names."""
    found = (_POISONED.match(row.message.strip()) for row in cursor.rows if "emory failure:" in row.message)
    return tuple(dict.fromkeys(int(match[1], 16) for match in found if match is not None))


def cpu(cursor: Cursor) -> Cpu:
    """The CPU as the log names it."""
    found = Cpu()
    for index, row in enumerate(cursor.rows):
        message = row.message.strip()
        if found.model is None and "CPU0: " in message:
            match = _CPU0.match(message)
            if match is not None:
                cursor.use(index)
                found = replace(
                    found,
                    model=match[1],
                    vendor=_vendor(match[1]),
                    family=int(match[2], 16) if match[2] else None,
                    model_number=int(match[3], 16) if match[3] else None,
                    stepping=int(match[4] or match[5], 16) if match[4] or match[5] else None,
                )
        if found.count is None and ("CPUs" in message or "processors activated" in message):
            match = _CPUS.search(message)
            if match is not None:
                cursor.use(index)
                found = replace(found, count=int(next(each for each in match.groups() if each)))
    return found


def _vendor(model: str) -> str | None:
    for word, vendor in (("Intel", "GenuineIntel"), ("AMD", "AuthenticAMD"), ("Hygon", "HygonGenuine")):
        if word in model:
            return vendor
    return None
