"""The less travelled ways of a driver to a memory type: arrays of pages, reservations, MTRRs."""

from __future__ import annotations

import errno

import pytest

from pytest_memtype import Guest, MemType

pytestmark = pytest.mark.needs_module

WB, WC, UC_MINUS = MemType.WB, MemType.WC, MemType.UC_MINUS


@pytest.mark.parametrize("memtype", [WC, UC_MINUS])
def test_set_pages_array_changes_the_direct_map(guest: Guest, memtype: MemType) -> None:
    """What graphics drivers do to the pages of a buffer. The verifier wants RAM write-back."""
    ram = guest.ram(pages=4)
    ttm = guest.driver("ttm")

    outcome = ttm.set_pages_array(ram[1:3], memtype)

    assert (outcome.verdict.rule, outcome.verdict.errno) == ("ram-not-wb", errno.EPERM)
    assert outcome.kernel.accepted
    assert outcome.granted is memtype
    assert guest.tracked(ram) == ()
    direct = ttm.memremap(ram, WB)
    assert direct.granted_pages == (WB, memtype, memtype, WB)
    assert outcome.mapping
    assert direct.mapping
    ttm.release(outcome.mapping)
    assert ttm.page_table(direct.mapping, guest.registers()[0]) == (WB,) * 4


def test_set_pages_array_names_another_error_than_set_memory(guest: Guest) -> None:
    """Linux tags pages of RAM: a tagged one can't be tagged again, not even alike. set_memory_wc() says
    EBUSY, set_pages_array_wc() EINVAL (arch/x86/mm/pat/set_memory.c, _set_pages_array())."""
    ram = guest.ram(pages=3)
    assert guest.driver("drm").set_memory(ram[2], WC).kernel.accepted

    again = guest.driver("ttm").set_memory(ram, WC)
    pages = guest.driver("ttm").set_pages_array(ram, WC)

    assert (again.kernel.errno, pages.kernel.errno) == (errno.EBUSY, errno.EINVAL)
    assert again.mapping is pages.mapping is None
    # Nothing stays of the pages before the one in the way.
    assert guest.driver("ttm").memremap(ram, WB).granted_pages == (WB, WB, WC)


def test_reserve_wc_has_the_type_before_anybody_maps(guest: Guest) -> None:
    """What drm_bo drivers do with their aperture: later mappings get WC, whatever they ask for."""
    bar = guest.mmio(pages=4)
    drm = guest.driver("drm")

    reserved = drm.reserve_wc(bar)
    late = guest.driver("fbdev").ioremap(bar[1:3], UC_MINUS)

    assert reserved.accepted
    assert reserved.granted is None
    assert [(each.region, each.memtype, each.owner) for each in guest.tracked(bar)] == [(bar, WC, "drm")]
    assert [(each.region, each.memtype) for each in guest.memtype_list(bar)] == [(bar, WC), (bar[1:3], WC)]
    assert late.verdict.rule == "alias"
    assert late.verdict.conflict
    assert late.verdict.conflict.owner == "drm"
    assert late.kernel.accepted
    assert late.granted is WC
    assert reserved.mapping
    assert late.mapping
    drm.release(reserved.mapping)
    guest.driver("fbdev").release(late.mapping)
    assert guest.tracked(bar) == ()
    assert guest.memtype_list(bar) == ()


def test_reserve_wc_of_uncached_memory(guest: Guest) -> None:
    """Linux says yes to WC and keeps UC-, without a word (memtype_reserve() with new_type)."""
    bar = guest.mmio(pages=2)
    assert guest.driver("fbdev").ioremap(bar, UC_MINUS).accepted

    reserved = guest.driver("drm").reserve_wc(bar)

    assert reserved.verdict.rule == "alias"
    assert reserved.kernel.accepted
    assert {each.memtype for each in guest.memtype_list(bar)} == {UC_MINUS}


@pytest.mark.layout("wb-device")
def test_reserve_wc_of_write_back_memory(guest: Guest) -> None:
    """The one refusal: is_new_memtype_allowed() doesn't give WB for WC."""
    bar = guest.mmio(pages=2)
    assert guest.driver("nvdimm").ioremap(bar, WB).accepted

    reserved = guest.driver("drm").reserve_wc(bar)

    assert reserved.verdict.rule == "alias"
    assert reserved.kernel.errno == errno.EBUSY
    assert reserved.mapping is None


def test_reserve_wc_of_ram(guest: Guest) -> None:
    ram = guest.ram(pages=2)

    reserved = guest.driver("drm").reserve_wc(ram)

    assert reserved.verdict.rule == "ram-not-wb"
    assert reserved.kernel.accepted
    assert reserved.mapping
    # memtype_kernel_map_sync(): RAM has its direct map changed along.
    direct = guest.driver("reader").memremap(ram, WB)
    assert direct.granted is WC
    assert direct.mapping
    guest.driver("drm").release(reserved.mapping)
    assert guest.driver("reader").page_table(direct.mapping, guest.registers()[0]) == (WB, WB)
