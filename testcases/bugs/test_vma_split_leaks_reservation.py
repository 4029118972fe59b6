"""A mapping that was split leaves its reservation behind for ever.

Reported by Nam Cao in August 2024 ("x86/PAT: split entries on VMA split"), and again by David Hildenbrand
in April 2025 with the pfnmap selftest.

Symptom: ``x86/PAT: test:177 freeing invalid memtype [mem 0xfd000000-0xfd000fff]``, and from then on nobody
can map the memory with another type: a write-combining frame buffer comes out uncached.

Cause: mprotect(), munmap() or mremap() of a part splits a VMA with VM_PAT in two, while there is one
reservation. Unmapping the low half first finds none of that size; unmapping the high half then shortens the
entry that ends there (2039e6acaf94, "same end"), and what is left of it belongs to nobody. The other order
leaves nothing.

Fix: the series "mm: rewrite pfnmap tracking and remove VM_PAT", 6.16-rc1, one counted context for all
pieces. It was not backported.

Source: mm/memory.c and arch/x86/mm/pat/memtype.c; VM_PAT came with b3b9c2932c32 (3.7).
"""

from __future__ import annotations

import pytest

from pytest_memtype import Guest, MemType, Process, Sighting
from pytest_memtype.guest.outcome import Mapping

WC, UC_MINUS = MemType.WC, MemType.UC_MINUS

pytestmark = pytest.mark.bug(
    id="vma-split-leak",
    title="a mapping that was split leaves its reservation behind for ever",
    introduced="3.7",
    fixed="6.16",
    core="Process.mprotect",
)


def split(process: Process, mapping: Mapping) -> None:
    assert process.mprotect(mapping, "r", offset=2, pages=2) == 0
    assert [vma.region.pages for vma in process.vmas()] == [2, 2]


def test_low_half_goes_first(guest: Guest, bug: Sighting) -> None:
    bar = guest.mmio(pages=4)
    process = guest.process("X")
    mapping = process.mmap(bar, UC_MINUS, via="sysfs").mapping
    assert mapping is not None
    split(process, mapping)

    assert process.munmap(mapping, offset=0, pages=2) == 0
    assert process.munmap(mapping, offset=2, pages=2) == 0
    process.exit()

    left = guest.memtype_list(bar)
    bug.harm(left != (), f"nobody maps {bar}, and reserved are {', '.join(map(str, left)) or 'none'}")
    granted = guest.process("Y").mmap(bar, WC, via="sysfs").granted
    bug.harm(granted is UC_MINUS, f"the next who asks for WC gets {granted}")


def test_high_half_goes_first(guest: Guest) -> None:
    """Nothing is left, on any kernel: it is the order that does it."""
    bar = guest.mmio(pages=4)
    process = guest.process("X")
    mapping = process.mmap(bar, UC_MINUS, via="sysfs").mapping
    assert mapping is not None
    split(process, mapping)

    assert process.munmap(mapping, offset=2, pages=2) == 0
    assert process.munmap(mapping, offset=0, pages=2) == 0

    assert guest.memtype_list(bar) == ()
