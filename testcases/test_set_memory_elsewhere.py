"""``set_memory()`` of pages that are not the driver's own: whatever has a direct map can get another type."""

from __future__ import annotations

import pytest

from pytest_memtype import Guest, MemType, Region
from pytest_memtype.errors import AgentError

pytestmark = pytest.mark.needs_module

UC_MINUS, WC, WB = MemType.UC_MINUS, MemType.WC, MemType.WB

#: RAM that the kernel gives out like any other, on all layouts: it begins at 1 MiB.
SOMEBODYS = Region(0x100000, 2)


@pytest.mark.parametrize("call", ["set_memory", "set_pages_array"])
@pytest.mark.parametrize("memtype", [UC_MINUS, WC], ids=lambda memtype: memtype.name)
def test_ram_of_somebody_else(guest: Guest, call: str, memtype: MemType) -> None:
    """The kernel doesn't ask whose page it is; the verifier refuses what isn't write-back (rule 1)."""
    driver = guest.driver("i915")
    change = getattr(driver, call)

    outcome = change(SOMEBODYS, memtype)

    assert outcome.verdict.rule == "ram-not-wb"
    assert outcome.kernel.accepted
    assert outcome.granted_pages == (memtype, memtype)
    assert guest.tracked(SOMEBODYS, observed=False) == ()
    assert outcome.mapping is not None
    driver.release(outcome.mapping)
    assert change(SOMEBODYS, WB).accepted


def test_write_back_of_a_page_that_nobody_changed(guest: Guest) -> None:
    """``memtype_free()`` leaves the first MiB alone (``is_untracked_pat_range()``, 5.10 to 7.3)."""
    first = guest.region(0, 0x1000)
    outcome = guest.driver("nvidia").set_memory(first, WB)
    assert outcome.accepted
    assert outcome.granted is WB
    assert [each.memtype for each in guest.tracked(first, observed=False)] == [WB]


def test_the_vga_window_has_a_direct_map(guest: Guest) -> None:
    """init_mem_mapping() maps all of the first MiB (arch/x86/mm/init.c, 5.10 to 7.3)."""
    window = guest.region(0xA0000, 0x2000)
    assert guest.driver("vga").set_memory(window, UC_MINUS).granted is UC_MINUS


@pytest.mark.parametrize("call", ["set_memory", "set_pages_array"])
@pytest.mark.parametrize("memtype", [UC_MINUS, WB], ids=lambda memtype: memtype.name)
def test_device_memory_has_none(guest: Guest, call: str, memtype: MemType) -> None:
    bar = guest.mmio(pages=2)
    with pytest.raises(AgentError, match=rf"{call}: this memory has no direct map"):
        getattr(guest.driver("drm"), call)(bar, memtype)
    assert guest.tracked(bar) == ()
    assert guest.reports() == ()


def test_ram_whose_end_has_none(guest: Guest) -> None:
    """All of it or nothing: 256 MiB of RAM, and what lies behind."""
    behind = guest.region((256 << 20) - 0x1000, 0x2000)
    with pytest.raises(AgentError, match="this memory has no direct map"):
        guest.driver("drm").set_memory(behind, WC)


@pytest.mark.parametrize("start", [1 << 46, (1 << 52) - 0x1000, (1 << 63)], ids=hex)
def test_addresses_beyond_all_memory(guest: Guest, start: int) -> None:
    """Their place in the direct map would be that of vmalloc, or of nothing."""
    with pytest.raises(AgentError, match="this memory has no direct map"):
        guest.driver("drm").set_memory(guest.region(start, 0x1000), WC)


@pytest.mark.parametrize("pages", [1 << 36, 1 << 44], ids=hex)
def test_more_pages_than_there_are(guest: Guest, pages: int) -> None:
    """Not even where the count wraps: the kernel's functions take an int."""
    with pytest.raises(AgentError, match="this memory has no direct map"):
        guest.driver("drm").set_memory(Region(SOMEBODYS.start, pages), WC)


def test_reserving_ram_of_somebody_else(guest: Guest) -> None:
    outcome = guest.driver("drm").reserve_wc(SOMEBODYS)
    assert outcome.verdict.rule == "ram-not-wb"
    assert outcome.kernel.accepted
    assert outcome.mapping is not None
    guest.driver("drm").release(outcome.mapping)
    assert guest.driver("drm").set_memory(SOMEBODYS, WB).accepted
