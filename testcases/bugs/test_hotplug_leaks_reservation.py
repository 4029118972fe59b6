"""A mapping whose memory became RAM meanwhile leaves its reservation behind for ever.

Nobody is known to have reported it: found here by plugging memory in beneath a mapping, with every kernel
from 5.10 to 7.3.

Symptom: none, and no line in the log. The entry stays in ``pat_memtype_list`` until the next boot. When the
memory is unplugged, whoever maps the range next gets write-combining, what the last one had, though he asked
for UC-.

Cause: memtype_free() asks anew what the memory is, and memtype_reserve() kept no note of what it was. Of RAM
free_ram_pages_type() resets two page flags, which nobody had set; where RAM begins behind the mapping's first
page the answer is EINVAL, which iounmap() ignores; free_pfn_range() for a process's mapping frees nothing at
all then. Memory hotplug looks at no reservations before it adds RAM.

Fix: none known, up to 7.3.

Source: arch/x86/mm/pat/memtype.c, memtype_free(), free_pfn_range() and pat_pagerange_is_ram(): word for word
the same in 6.1, 6.12 and 7.3, and the first and the last in 5.10, too.
"""

from __future__ import annotations

import pytest

from pytest_memtype import Guest, MemType, Region, Sighting

WB, WC, UC_MINUS = MemType.WB, MemType.WC, MemType.UC_MINUS

pytestmark = [
    pytest.mark.hardware(most_memory="1G"),
    pytest.mark.needs_config("MEMORY_HOTPLUG", "ACPI_HOTPLUG_MEMORY", "MEMORY_HOTREMOVE"),
    pytest.mark.bug(
        id="hotplug-leak",
        title="a mapping whose memory became RAM leaves its reservation behind for ever",
        core="Guest.plug_memory",
        kind="observed",
    ),
]

#: The memory that comes, where Guest.plug_memory() says.
NEW = Region(1 << 32, (128 << 20) >> 12)
INSIDE = NEW[512:528]
#: It begins in the firmware's flash memory, which ends at 4 GiB.
FROM_BEFORE = Region(NEW.start - (8 << 12), 16)


def plug(guest: Guest) -> None:
    assert set(guest.kernel.direct_pages(NEW).types) == {None}
    assert guest.plug_memory("128M") == NEW
    assert set(guest.kernel.direct_pages(NEW).types) == {WB}


def look(guest: Guest, bug: Sighting, device: Region) -> None:
    """What is left when nobody maps the range, and what the next one gets when it is a device's again."""
    assert guest.tracked(device) == ()
    left = guest.memtype_list(device)
    bug.harm(left != (), f"nobody maps {device}, and reserved are {', '.join(map(str, left)) or 'none'}")

    guest.unplug_memory(NEW)

    other = guest.driver("fbdev").ioremap(device, UC_MINUS)
    assert other.verdict.accepted
    assert other.kernel.accepted
    bug.harm(other.granted is WC, f"the next one asks for UC- and has {other.granted} in its page table")


@pytest.mark.parametrize("device", [INSIDE, FROM_BEFORE], ids=["inside", "from-before"])
def test_driver_whose_memory_became_ram(guest: Guest, bug: Sighting, device: Region) -> None:
    drm = guest.driver("drm")
    mapped = drm.ioremap(device, WC)
    assert mapped.granted is WC
    assert mapped.mapping is not None
    plug(guest)

    drm.release(mapped.mapping)

    look(guest, bug, device)


def test_process_whose_memory_became_ram(guest: Guest, bug: Sighting) -> None:
    process = guest.process("X")
    mapped = process.mmap(INSIDE, WC)
    assert mapped.granted is WC
    assert mapped.mapping is not None
    plug(guest)

    assert process.munmap(mapped.mapping) == 0

    look(guest, bug, INSIDE)


def test_let_go_when_it_is_a_device_again(guest: Guest) -> None:
    """On every kernel: who keeps the mapping until the memory is gone gives its reservation back."""
    drm = guest.driver("drm")
    mapped = drm.ioremap(INSIDE, WC)
    assert mapped.mapping is not None
    plug(guest)
    guest.unplug_memory(NEW)
    assert [(each.region, each.memtype) for each in guest.memtype_list(INSIDE)] == [(INSIDE, WC)]

    drm.release(mapped.mapping)

    assert (guest.tracked(INSIDE), guest.memtype_list(INSIDE)) == ((), ())
    assert guest.driver("fbdev").ioremap(INSIDE, UC_MINUS).granted is UC_MINUS
