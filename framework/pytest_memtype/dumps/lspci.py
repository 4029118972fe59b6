"""Memory of PCI devices: ``lspci -v`` (pciutils, ls-vpd.c and lspci.c), and the kernel's log of its scan."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final, TypeAlias

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
# Then setup-res.c: "BAR 0: assigned [mem ...]", "can't claim BAR 0 [mem ...]: ..."; since 6.9 what has become
# of it stands behind the range.
_SCANNED: Final = re.compile(
    rf"\bpci (?P<device>{_ADDRESS}): (?P<lost>can't claim )?(?:reg (?:0x)?(?P<register>[0-9a-f]{{2,3}}):?"
    r"|BAR (?P<index>\d{1,2}):?|ROM)(?: (?:assigned|set to|(?P<releasing>releasing)))? "
    r"\[mem 0x(?P<start>[0-9a-f]{1,16})-0x(?P<end>[0-9a-f]{1,16})(?P<flags>(?: 64bit| pref| window)*)\]"
    r"(?P<gone>: (?:can't claim|releasing))?",
    re.I,
)
#: PCI_ROM_ADDRESS, and of a bridge PCI_ROM_ADDRESS1.
_ROM: Final = (0x30, 0x38)
#: PCI_ROM_RESOURCE. What has a higher number is a bridge's window, or of SR-IOV.
_ROM_INDEX: Final = 6

_Key: TypeAlias = tuple[str, int | None, Span | None]


def bars(cursor: Cursor, boot: range) -> tuple[Bar, ...]:
    """The BARs that a text has, each with its device if that is named above it, where they are at last.

    What is listed outside a boot may be of another one, so the boot's own lines come first.

    :param cursor: The text, anywhere in which ``lspci`` may list them.
    :param boot: The numbers of the lines of a boot, of which alone the kernel's log counts.
    """
    found: dict[_Key, Bar] = {}
    elsewhere: dict[_Key, Bar] = {}
    descriptions: dict[tuple[str, Span], str] = {}
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
                    if start and size and start + size <= 1 << 64:
                        bar = Bar(device, description, number, span, bits, prefetchable, row.number)
                        (found if row.number in boot else elsewhere)[_key(bar)] = bar
                        if description:
                            descriptions[_domainless(device), span] = description
                break
        elif "[mem 0x" in message and (match := _SCANNED.search(message)):
            cursor.use(index)
            if row.number in boot:
                _scanned(match, row.number, found)
    taken = {bar.span for bar in found.values()}
    others = [bar for key, bar in elsewhere.items() if key not in found and bar.span not in taken]
    described = (
        replace(bar, description=bar.description or descriptions.get((_domainless(bar.device), bar.span), ""))
        for bar in [*found.values(), *others]
    )
    return tuple(dict.fromkeys(described))


def _scanned(match: re.Match[str], line: int, found: dict[_Key, Bar]) -> None:
    """Note where the kernel says that a BAR is, or that it is no more.

    :param match: What was read of the line.
    :param line: Its number.
    :param found: The BARs so far.
    """
    if match["register"]:
        register = int(match["register"], 16)
        number, rom = (register - 0x10) // 4, register in _ROM
    else:
        number = int(match["index"] or _ROM_INDEX)
        rom = number == _ROM_INDEX
    if not rom and not 0 <= number < _ROM_INDEX:
        return
    start, end, flags = int(match["start"], 16), int(match["end"], 16), match["flags"]
    bits, prefetchable = 64 if "64bit" in flags else 32, "pref" in flags
    index = None if rom else number
    bar = Bar(match["device"], "", index, Span(start, max(start, end)), bits, prefetchable, line, rom)
    # A BAR at 0 has no address yet.
    if match["lost"] or match["releasing"] or match["gone"] or not start or start > end:
        found.pop(_key(bar), None)
    else:
        found[_key(bar)] = bar


def _key(bar: Bar) -> _Key:
    """The device without its domain 0, and the number: what has neither is told apart by its range."""
    number = _ROM_INDEX if bar.rom else bar.index
    return _domainless(bar.device), number, None if bar.device and number is not None else bar.span


def _domainless(device: str) -> str:
    return device.removeprefix("0000:")
