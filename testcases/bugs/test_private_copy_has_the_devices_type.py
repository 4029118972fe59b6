"""A process that writes to a private mapping of device memory gets RAM with the device's memory type.

Not reported as a bug: seen by this project on 5.10, 6.1, 6.12 and 7.3.

Symptom: none. An ordinary page of RAM, which the kernel's direct map has write-back, is uncached or
write-combining in the process: the kernel's copy into it goes through the cache, the process reads beside
it.

Cause: the entry of the copy is made from the VMA's protection, which says the device's type
(wp_page_copy()). Neither the page's flags nor the direct map are asked.

Fix: none known.

Source: mm/memory.c, wp_page_copy().
"""

from __future__ import annotations

import pytest

from pytest_memtype import Guest, MemType, Sighting

pytestmark = pytest.mark.bug(
    id="private-copy-type",
    title="the copy of a private page in RAM has the type of the device's memory",
    core="Process.write",
    kind="observed",
)


@pytest.mark.parametrize(
    ("via", "memtype"), [("devmem", MemType.UC_MINUS), ("sysfs", MemType.WC)], ids=["devmem", "sysfs"]
)
def test_beside_the_direct_map(guest: Guest, bug: Sighting, via: str, memtype: MemType) -> None:
    bar = guest.mmio(pages=2)
    process, kernel = guest.process("X"), guest.driver("direct map")
    mapping = process.mmap(bar, memtype, via=via, private=True).mapping
    assert mapping is not None

    process.write(mapping, page=0)

    copy = process.physical(mapping, page=0)
    assert copy is not None
    assert copy != bar.start
    # memremap() of RAM gives the direct map's own address.
    direct = kernel.memremap(guest.region(copy, 4096), MemType.WB).mapping
    assert direct is not None
    bug.alias((process, mapping), (kernel, direct))
