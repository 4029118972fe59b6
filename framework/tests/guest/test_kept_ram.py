"""RAM that the agent can't give back as it got it, it keeps, as the kernel's own callers do, and counts."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from memtype_support.tiny_program import install_program

from pytest_memtype import Guest, MemType
from pytest_memtype.guest.region import Region

WC = MemType.WC

PAGES = 16

MOST_PAGES = 1024
"""In one block of the agent's. More than a CPU keeps for itself of pages that are freed one by one, as
free_pages_exact() does it: those it keeps aren't in the buddy's lists (mm/page_alloc.c, 5.10 to 7.3)."""

FAILS = ("set_memory", "set_memory_wb"), ("set_pages_array", "set_pages_array_wb")


def freed(guest: Guest, region: Region) -> bool:
    """Can the kernel give one of these pages to somebody else? KPF_BUDDY is bit 10 of a page's flags,
    include/uapi/linux/kernel-page-flags.h; it is set for all pages of a free block."""
    first = region.start >> 12
    flags = guest.shell(
        f"dd if=/proc/kpageflags bs=8 skip={first} count={region.pages} 2>/dev/null | od -v -An -tx8"
    ).output.split()
    assert len(flags) == region.pages
    return any(int(each, 16) >> 10 & 1 for each in flags)


@pytest.mark.parametrize(("call", "function"), FAILS)
def test_ram_that_stays_uncached_is_nobody_elses(guest: Guest, call: str, function: str) -> None:
    driver = guest.driver("agp")
    ram, other = (guest.ram(pages=MOST_PAGES) for _ in range(2))
    mapping = getattr(driver, call)(ram, WC).mapping
    assert mapping is not None
    with guest.faults.fail(function, returns=-errno.ENOMEM) as fault:
        driver.release(mapping)
        assert fault.counts.failed == 1
    guest.reset()
    assert not freed(guest, ram)
    assert freed(guest, other)
    assert guest.kept_pages() == MOST_PAGES


def test_reserved_ram_that_stays_uncached_is_nobody_elses(guest: Guest) -> None:
    driver = guest.driver("agp")
    ram, other = (guest.ram(pages=MOST_PAGES) for _ in range(2))
    mapping = driver.reserve_wc(ram).mapping
    assert mapping is not None
    with guest.faults.fail("set_memory_wb", returns=-errno.ENOMEM) as fault:
        driver.release(mapping)
        assert fault.counts.failed == 1
    guest.reset()
    assert not freed(guest, ram)
    assert freed(guest, other)
    assert guest.kept_pages() == MOST_PAGES


def test_ram_that_a_process_still_maps_is_nobody_elses(guest: Guest, tmp_path: Path) -> None:
    program = install_program(guest, tmp_path, "reset_module")
    ram = guest.ram(pages=PAGES)
    process = guest.process("X")
    mapping = process.mmap(ram, MemType.WB).mapping
    assert mapping is not None
    child = process.fork("Y")
    process.exit()
    values = [0x1234 + page for page in range(PAGES)]
    for page, value in enumerate(values):
        child.write(mapping, page, value)
    assert guest.shell(program).status == 0
    # Who asks for as much gets what was freed last, and it is cleared.
    assert not any(guest.ram(pages=PAGES).overlaps(ram) for _ in range(8))
    assert [child.read(mapping, page) for page in range(PAGES)] == values
    assert guest.kept_pages() == PAGES
    child.exit()
    # Not freed later either: nobody remembers it.
    guest.reset()
    assert guest.kept_pages() == PAGES


def test_what_is_as_it_was_is_given_back(guest: Guest) -> None:
    """The agent takes a quarter of the guest's 256 MiB at most, and what it keeps is part of that."""
    driver = guest.driver("agp")
    for _ in range(20):
        ram = guest.ram(pages=MOST_PAGES)
        mapping = driver.set_memory(ram, WC).mapping
        assert mapping is not None
        driver.release(mapping)
        assert driver.set_pages_array(ram, WC).mapping is not None
        guest.process("X").mmap(ram, MemType.WB)
        guest.reset()
    assert guest.kept_pages() == 0
