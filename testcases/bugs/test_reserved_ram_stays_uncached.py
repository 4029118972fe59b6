"""After ioremap() and iounmap() of reserved RAM the kernel believes it write-back, but has it uncached.

Not reported as a bug: seen by this project on 5.10, 6.1, 6.12 and 7.3.

Symptom: none; the memory is slow. Whoever maps it write-back afterwards has an alias of the kernel's direct
map.

Cause: ioremap() takes RAM all of whose pages are reserved (PageReserved), and changes the direct map with
it. iounmap() puts the pages' flags back to write-back and leaves the direct map as it is.

Fix: none known; set_memory_wb() repairs it.

Source: arch/x86/mm/ioremap.c, __ioremap_caller() and iounmap(); memtype.c, memtype_free().
"""

from __future__ import annotations

import re

import pytest

from pytest_memtype import Guest, MemType, Region, Sighting

WB, UC_MINUS = MemType.WB, MemType.UC_MINUS

pytestmark = pytest.mark.bug(
    id="reserved-ram",
    title="the direct map of reserved RAM stays uncached after iounmap()",
    core="Driver.ioremap",
    kind="observed",
)


def reserved_ram(guest: Guest) -> Region:
    """A page of the kernel's own data: memblock reserved it at boot."""
    listed = guest.shell("cat /proc/iomem").output
    match = re.search(r"([0-9a-f]+)-[0-9a-f]+ : Kernel bss", listed)
    assert match is not None, listed
    return guest.region(int(match[1], 16), 4096)


def test_direct_map_and_process(guest: Guest, bug: Sighting) -> None:
    page = reserved_ram(guest)
    driver, process = guest.driver("X"), guest.process("Y")
    assert driver.memremap(page, WB).granted is WB

    mapped = driver.ioremap(page, UC_MINUS)
    assert mapped.granted is UC_MINUS
    assert mapped.mapping is not None
    driver.release(mapped.mapping)

    direct, own = driver.memremap(page, WB).mapping, process.mmap(page, WB, protection="r").mapping
    assert direct is not None
    assert own is not None
    bug.alias((process, own), (driver, direct))
