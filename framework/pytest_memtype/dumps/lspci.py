"""Memory of PCI devices: ``lspci -v`` (pciutils, ls-vpd.c and lspci.c), and the kernel's log of its scan."""

from __future__ import annotations

import re
from typing import Final

from pytest_memtype.dumps.facts import Bar, Span
from pytest_memtype.dumps.text import Cursor
from pytest_memtype.x86.size import UNITS

_ADDRESS: Final = r"(?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]"
_DEVICE: Final = re.compile(rf"^\s*(?P<device>{_ADDRESS}) (?P<description>[A-Z\"][^\n]{{3,200}})$", re.I)
_COMMAND: Final = re.compile(rf"\blspci\b.{{0,40}}-s ?(?P<device>{_ADDRESS})", re.I)
_MEMORY: Final = re.compile(
    r"\b(?:Region (?P<index>\d): )?Memory at (?P<start>[0-9a-f]{4,16}) "
    r"\((?:(?P<bits>32|64)-bit|low-1M|type \d), "
    r"(?P<prefetchable>non-)?prefetchable\)(?: \[(?:disabled|virtual|enhanced)\])*"
    r"(?: \[size=(?P<size>\d{1,6})(?P<unit>[KMGT]?)\])?",
    # ASCII, as the sign of kelvins is a K where case doesn't matter.
    re.I | re.ASCII,
)
# drivers/pci/probe.c, __pci_read_base(): "reg 10:", "reg 0x10:" since 3.10, "BAR 0 [mem ...]" since 6.9.
_SCANNED: Final = re.compile(
    rf"\bpci (?P<device>{_ADDRESS}): (?:reg (?:0x)?(?P<register>[0-9a-f]{{2,3}}):?|BAR (?P<index>\d):?) "
    r"\[mem 0x(?P<start>[0-9a-f]{1,16})-0x(?P<end>[0-9a-f]{1,16})(?P<flags>(?: 64bit| pref| window)*)\]",
    re.I,
)


def bars(cursor: Cursor) -> tuple[Bar, ...]:
    """The BARs that a text has, each with its device if that is named above it."""
    found: list[Bar] = []
    device, description = "", ""
    for index, row in enumerate(cursor.rows):
        message = row.message
        if "lspci" in message and (match := _COMMAND.search(message)):
            device, description = match["device"], ""
            continue
        if (match := _DEVICE.match(row.text)) is not None and ": " in message:
            device, description = match["device"], match["description"].strip()
            cursor.use(index)
            continue
        if "Memory at" in message:
            for text, count in cursor.pieces(index):
                match = _MEMORY.search(text)
                if match is None or (match["size"] is None and count == 1):
                    continue
                if match["size"] is not None:
                    cursor.use(index, count)
                    start = int(match["start"], 16)
                    size = int(match["size"]) * UNITS[match["unit"].upper()]
                    span = Span(start, start + size - 1)
                    prefetchable = match["prefetchable"] is None
                    number = int(match["index"]) if match["index"] else None
                    bits = int(match["bits"]) if match["bits"] else None
                    if size and start + size <= 1 << 64:
                        found.append(Bar(device, description, number, span, bits, prefetchable, row.number))
                break
        elif "[mem 0x" in message and (match := _SCANNED.search(message)):
            cursor.use(index)
            start, end = int(match["start"], 16), int(match["end"], 16)
            number = int(match["index"]) if match["index"] else (int(match["register"], 16) - 0x10) // 4
            if start <= end:
                flags = match["flags"]
                bits = 64 if "64bit" in flags else 32
                found.append(
                    Bar(match["device"], "", number, Span(start, end), bits, "pref" in flags, row.number)
                )
    return tuple(dict.fromkeys(found))
