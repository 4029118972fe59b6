"""A BAR through its files in sysfs: drivers/pci/mmap.c maps what lies in it, and nothing behind."""

from __future__ import annotations

import errno

import pytest

from pytest_memtype import Guest, MemType

pytestmark = pytest.mark.needs_module

WC, UC_MINUS = MemType.WC, MemType.UC_MINUS

PAGE = 4096
# The test device's.
BAR, PAGES = 0xFD000000, 4096


@pytest.mark.parametrize("memtype", [WC, UC_MINUS], ids=lambda memtype: memtype.name)
@pytest.mark.parametrize(
    ("first", "pages", "allowed"),
    [
        (0, PAGES, True),
        (0, PAGES + 1, False),
        (PAGES - 1, 1, True),
        (PAGES - 1, 2, False),
        (PAGES // 2, PAGES // 2, True),
        (PAGES // 2, PAGES // 2 + 1, False),
    ],
    ids=["all", "all-and-one", "last", "last-and-one", "half", "half-and-one"],
)
def test_the_end_of_a_bar(guest: Guest, memtype: MemType, first: int, pages: int, allowed: bool) -> None:
    """pci_mmap_fits(), pci_mmap_resource_range(): EINVAL for what ends behind it, and nothing is kept.
    What fits is mapped at its place, of the type of the file."""
    region = guest.region(BAR + first * PAGE, pages * PAGE)
    process = guest.process("X")
    outcome = process.mmap(region, memtype, via="sysfs")
    assert outcome.kernel.errno == (0 if allowed else errno.EINVAL)
    assert [each.region for each in guest.memtype_list(region)] == [region] * allowed
    assert len(guest.tracked(region)) == allowed
    if allowed:
        assert outcome.granted_pages == (memtype,) * pages
        assert outcome.mapping
        assert process.physical(outcome.mapping, 0) == region.start
        assert process.physical(outcome.mapping, pages - 1) == region.end - PAGE
