"""Taking one page out of the page tables frees the reservation of all the others, which stay mapped.

Reported by Peter Xu, 12 July 2024 ("mm/x86/pat: Only untrack the pfn range if unmap region",
20240712144244.3090089-1-peterx@redhat.com), after reports about vfio-pci by David Wang, Bert Karwatzki and
Pei Li. That patch was not merged.

Symptom: none at first, and no line in the log: another may map the remaining pages with another type.

Cause: unmap_single_vma() calls untrack_pfn() for the whole VMA also when unmap_mapping_range() or
zap_page_range_single() takes away a part of it.

Fix: the series "mm: rewrite pfnmap tracking and remove VM_PAT", 6.16-rc1. It was not backported.

Source: mm/memory.c, unmap_single_vma(); VM_PAT came with b3b9c2932c32 (3.7).
"""

from __future__ import annotations

import pytest

from pytest_memtype import Guest, MemType, Sighting

WC, UC_MINUS = MemType.WC, MemType.UC_MINUS

pytestmark = pytest.mark.bug(
    id="zap-untracks-all",
    title="taking one page out of the page tables frees the reservation of all the others",
    introduced="3.7",
    fixed="6.16",
    core="Driver.zap",
)


def test_pages_that_stay(guest: Guest, bug: Sighting) -> None:
    bar = guest.mmio(pages=4)
    process, other = guest.process("X"), guest.process("Y")
    mapping = process.mmap(bar, UC_MINUS).mapping
    assert mapping is not None

    guest.driver("vfio").zap(bar[0])

    assert process.physical(mapping, page=0) is None
    reserved = guest.memtype_list(bar)
    bug.harm(reserved == (), f"{bar[1:]} is mapped, reserved are {', '.join(map(str, reserved)) or 'none'}")
    second = other.mmap(bar, WC, via="sysfs").mapping
    assert second is not None
    bug.alias((process, mapping, 1), (other, second, 1))
