"""iounmap() oopses if the front of the mapping has become RAM meanwhile, and nothing is behind that RAM.

Nobody is known to have reported it: found here on the way from ``hotplug-leak``, with every kernel from 5.10
to 7.3.

Symptom: "BUG: unable to handle page fault" in memtype_free(), called by iounmap().

Cause: memtype_free() asks anew what the memory is. pat_pagerange_is_ram() takes a range for RAM that begins
with RAM, for walk_system_ram_range() calls pagerange_is_ram_callback() for RAM alone, and a hole behind the
last of it is never seen. free_ram_pages_type() then resets the flags of each page of the range, and where no
memory is there is no struct page: the page table of the vmemmap has nothing there.

Fix: none known, up to 7.3.

Source: arch/x86/mm/pat/memtype.c, memtype_free(), free_ram_pages_type() and pagerange_is_ram_callback():
word for word the same in 5.10, 6.1, 6.12 and 7.3.
"""

from __future__ import annotations

import pytest

from pytest_memtype import Guest, MemType, Region, Sighting
from pytest_memtype.errors import GuestPanicked

WB, WC = MemType.WB, MemType.WC

pytestmark = [
    pytest.mark.hardware(most_memory="1G"),
    pytest.mark.needs_config("MEMORY_HOTPLUG", "ACPI_HOTPLUG_MEMORY", "SPARSEMEM_VMEMMAP"),
    pytest.mark.bug(
        id="hotplug-oops",
        title="iounmap() oopses if the front of the mapping became RAM, and nothing is behind that RAM",
        core="Guest.plug_memory",
        kind="observed",
    ),
]

#: The memory that comes, where Guest.plug_memory() says.
NEW = Region(1 << 32, (128 << 20) >> 12)
PAST_THE_END = Region(NEW.end - (8 << 12), 16)


def test_mapping_past_the_end_of_new_ram(guest: Guest, bug: Sighting) -> None:
    drm = guest.driver("drm")
    mapped = drm.ioremap(PAST_THE_END, WC)
    assert mapped.granted is WC
    assert mapped.mapping is not None
    assert guest.plug_memory("128M") == NEW
    assert guest.kernel.direct_pages(PAST_THE_END).types == (WB,) * 8 + (None,) * 8

    bug.expect_report("memtype_free")
    try:
        drm.release(mapped.mapping)
    except GuestPanicked:
        said = "; ".join(each.title for each in guest.reports())
        bug.harm(True, f"iounmap() of {PAST_THE_END}, of which the front is RAM: {said}")
        raise
    bug.harm(False, f"iounmap() of {PAST_THE_END}, of which the front is RAM, returned")


def test_mapping_up_to_the_end_of_new_ram(guest: Guest) -> None:
    """On every kernel: a mapping that ends where the RAM ends is released without a report."""
    drm = guest.driver("drm")
    mapped = drm.ioremap(NEW[-8:], WC)
    assert mapped.mapping is not None
    assert guest.plug_memory("128M") == NEW

    drm.release(mapped.mapping)

    assert guest.tracked(NEW) == ()
