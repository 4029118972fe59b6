"""The kernel's own list of reservations, ``/sys/kernel/debug/x86/pat_memtype_list``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pytest_memtype.errors import GuestError
from pytest_memtype.guest.region import PAGE_SIZE, Region
from pytest_memtype.x86.memtype import MemType, parse_memtype

# The end is exclusive in 5.10 to 7.3 (arch/x86/mm/pat/memtype.c, memtype_seq_show()).
_LINE = re.compile(r"PAT: \[mem 0x([0-9a-f]+)-0x([0-9a-f]+)\] ([a-z-]+)")

# guests/agent/system.c
_NONE: Final = "the kernel has no pat_memtype_list"


@dataclass(frozen=True)
class ListEntry:
    """A reservation of the kernel. Several of the same range are the kernel's reference count."""

    region: Region
    memtype: MemType

    def __str__(self) -> str:
        return f"{self.region} {self.memtype}"


def parse_memtype_list(text: str) -> tuple[ListEntry, ...]:
    """The reservations in the kernel's list, in the kernel's order.

    :param text: Content of the file, its heading included.
    :raises ValueError: a line has another form than any kernel's so far.
    """
    entries = []
    for line in text.splitlines()[1:]:
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"pat_memtype_list has an unknown line: {line!r}")
        start, end = int(match[1], 16), int(match[2], 16)
        entries.append(ListEntry(Region(start, (end - start) // PAGE_SIZE), parse_memtype(match[3])))
    return tuple(entries)


def keeps_none(error: GuestError) -> bool:
    """Does an error say that the kernel keeps no list, as with the PAT off?

    :param error: The error of :meth:`Guest.memtype_list`. Others mean that there is one that can't be read.
    """
    return error.message.startswith(_NONE)
