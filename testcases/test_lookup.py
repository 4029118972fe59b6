"""``lookup_pfn_memtype``: "I don't care", the type in use, or the default, or EBUSY where they differ."""

from __future__ import annotations

import errno

import pytest

from pytest_memtype import Guest, MemType, Region

UC_MINUS, WC, WT, WB = MemType.UC_MINUS, MemType.WC, MemType.WT, MemType.WB

pytestmark = [pytest.mark.layout("firmware"), pytest.mark.needs_module]


def test_defaults(guest: Guest) -> None:
    """RAM is write-back; for device memory Linux's own default, UC- (lookup_memtype())."""
    for region, memtype in ((guest.ram(pages=2), WB), (guest.mmio(pages=2), UC_MINUS)):
        answer = guest.lookup(region)
        assert (answer.memtype, answer.errno, answer.in_use) == (memtype, 0, False)
        assert guest.verify(region, memtype).accepted


@pytest.mark.parametrize("memtype", [UC_MINUS, WC, WT], ids=lambda memtype: memtype.name)
@pytest.mark.parametrize("where", [slice(0, 4), slice(0, 1), slice(3, 4), slice(1, 2)], ids=str)
def test_one_page_in_use_is_enough(guest: Guest, where: slice, memtype: MemType) -> None:
    """Pages that nobody maps don't count beside others."""
    bar = guest.mmio(pages=4)
    assert guest.driver("drm").ioremap(bar[where], memtype).accepted

    answer = guest.lookup(bar)

    assert (answer.memtype, answer.errno, answer.in_use) == (memtype, 0, True)


def test_a_process_counts(guest: Guest) -> None:
    bar = guest.mmio(pages=2)
    process = guest.process("X")
    assert process.mmap(bar, WC).accepted
    assert guest.lookup(bar).memtype is WC

    process.exit()

    assert guest.lookup(bar).memtype is UC_MINUS
    assert not guest.lookup(bar).in_use


def test_a_reservation_counts(guest: Guest) -> None:
    bar = guest.mmio(pages=2)
    assert guest.driver("drm").reserve_wc(bar).accepted

    assert guest.lookup(bar).memtype is WC


def test_pages_that_differ(guest: Guest) -> None:
    """And each alone has its type, as has a range that leaves the other out."""
    bar = guest.mmio(pages=5)
    assert guest.driver("drm").ioremap(bar[0:2], WC).accepted
    assert guest.driver("fbdev").ioremap(bar[3:5], WT).accepted

    answer = guest.lookup(bar)

    assert (answer.memtype, answer.errno) == (None, errno.EBUSY)
    assert guest.lookup(bar[1:4]).errno == errno.EBUSY
    assert guest.lookup(bar[0:3]).memtype is WC
    assert guest.lookup(bar[2:5]).memtype is WT
    assert guest.lookup(bar[2]).memtype is UC_MINUS


def test_a_refused_mapping_does_not_count(guest: Guest) -> None:
    """What Linux granted in spite of the verifier is not what the verifier stands for."""
    bar = guest.mmio(pages=3)
    assert guest.driver("drm").ioremap(bar[0:2], WC).accepted
    assert guest.driver("fbdev").ioremap(bar[1:3], UC_MINUS).kernel.accepted

    assert not guest.lookup(bar[2]).in_use


def test_malformed_ranges(guest: Guest) -> None:
    width = guest.registers()[0].physical_bits
    for region in (guest.mmio(pages=1)[0:0], Region((1 << width) - 4096, 2), Region(1 << width, 1)):
        answer = guest.lookup(region)
        assert (answer.memtype, answer.errno) == (None, errno.EINVAL)


def test_the_type_in_use_is_the_one_that_is_accepted(guest: Guest) -> None:
    """What the call is for: whoever maps with its answer breaks no rule."""
    bar = guest.mmio(pages=4)
    assert guest.driver("drm").ioremap(bar[2:4], WT).accepted

    memtype = guest.lookup(bar[0:3]).memtype

    assert memtype is not None
    assert guest.driver("careless").ioremap(bar[0:3], memtype).accepted
