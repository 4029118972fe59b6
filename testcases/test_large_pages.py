"""Large pages: Linux maps device memory with 2 MiB and 1 GiB pages where it can.

Each counts as its 4 KiB pages.
"""

from __future__ import annotations

import pytest

from pytest_memtype import EffectiveType, Guest, Layout, Leaves, MemType, MtrrRange, PageSize

pytestmark = pytest.mark.needs_module

WB, WC, UC, UC_MINUS, WT = MemType.WB, MemType.WC, MemType.UC, MemType.UC_MINUS, MemType.WT
SIZE_4K, SIZE_2M, SIZE_1G = PageSize.SIZE_4K, PageSize.SIZE_2M, PageSize.SIZE_1G

GIB = 1 << 30
# Above all RAM and devices, and below the 40 bits that TCG's CPUs address.
HOLE = 64 * GIB

gigabyte_pages = pytest.mark.hardware(cpu="qemu64,+pdpe1gb")


@pytest.mark.parametrize("memtype", [UC_MINUS, UC, WC, WT], ids=lambda memtype: memtype.name)
def test_two_megabytes(guest: Guest, memtype: MemType) -> None:
    """WT has the PAT bit set (slot 7 of Linux), which is bit 12 in a large page."""
    bar = guest.mmio(pages=1024, align=512)

    outcome = guest.driver("drm").ioremap(bar, memtype)

    assert outcome.accepted
    assert outcome.leaves == (Leaves(SIZE_2M, 1024, memtype),)
    assert outcome.granted_pages == (memtype,) * 1024
    assert [each.region for each in guest.tracked(bar)] == [bar]


def test_only_what_is_aligned_is_large(guest: Guest) -> None:
    """Linux aligns the virtual address to the size, so a start off the 2 MiB makes all pages small
    (__get_vm_area_node(), VM_IOREMAP)."""
    bar = guest.mmio(pages=1536, align=512)

    tail = guest.driver("drm").ioremap(bar[0:513], WC)
    off = guest.driver("drm").ioremap(bar[1023:1536], WC)

    assert tail.leaves == (Leaves(SIZE_2M, 512, WC), Leaves(SIZE_4K, 1, WC))
    assert off.leaves == (Leaves(SIZE_4K, 513, WC),)


@gigabyte_pages
@pytest.mark.parametrize("memtype", [UC_MINUS, WT], ids=lambda memtype: memtype.name)
def test_one_gigabyte(guest: Guest, memtype: MemType) -> None:
    region = guest.region(HOLE, GIB + 4096)

    outcome = guest.driver("gpu").ioremap(region, memtype)

    assert outcome.accepted
    assert outcome.leaves == (Leaves(SIZE_1G, 1 << 18, memtype), Leaves(SIZE_4K, 1, memtype))
    assert len(outcome.effective_pages) == (1 << 18) + 1


def test_without_the_feature_a_gigabyte_is_2048_kilobytes_at_a_time(guest: Guest) -> None:
    outcome = guest.driver("gpu").ioremap(guest.region(HOLE, GIB), UC_MINUS)

    assert outcome.leaves == (Leaves(SIZE_2M, 1 << 18, UC_MINUS),)


@gigabyte_pages
@pytest.mark.parametrize("page", [0, 1, 511, 512, 131071, (1 << 18) - 1])
def test_one_page_of_a_large_one_is_enough(guest: Guest, page: int) -> None:
    """A large mapping counts as its 4 KiB pages: any of them conflicts, and the next page behind doesn't."""
    region = guest.region(HOLE, GIB)
    assert guest.driver("gpu").ioremap(region, UC_MINUS).accepted

    verdict = guest.verify(region[page], WC)

    assert verdict.rule == "alias"
    assert verdict.conflict is not None
    assert verdict.conflict.region == region
    assert guest.verify(region[page], UC_MINUS).accepted
    assert guest.verify(guest.region(region.end, 4096), WC).accepted


def test_a_small_mapping_is_in_the_way_of_a_large_one(guest: Guest) -> None:
    """Linux makes the large mapping of the small one's type, all 512 pages of it."""
    bar = guest.mmio(pages=512, align=512)
    assert guest.driver("fbdev").ioremap(bar[300], WC).accepted

    outcome = guest.driver("drm").ioremap(bar, UC_MINUS)

    assert outcome.verdict.rule == "alias"
    assert outcome.leaves == (Leaves(SIZE_2M, 512, WC),)


def test_set_memory_splits_a_large_page(guest: Guest) -> None:
    """The direct map has RAM in large pages; one page of another type breaks its page into 512."""
    ram = guest.ram(pages=512)
    reader = guest.driver("reader")
    direct = reader.memremap(ram, WB)
    assert direct.leaves == (Leaves(SIZE_2M, 512, WB),)

    outcome = guest.driver("ttm").set_memory(ram[3], WC)

    assert outcome.leaves == (Leaves(SIZE_4K, 1, WC),)
    assert direct.mapping
    assert reader.leaves(direct.mapping, guest.registers()[0]) == (
        Leaves(SIZE_4K, 3, WB),
        Leaves(SIZE_4K, 1, WC),
        Leaves(SIZE_4K, 508, WB),
    )


def test_a_process_has_small_pages(guest: Guest) -> None:
    """remap_pfn_range() makes no large ones (mm/memory.c, 5.10 to 7.3), a driver gets them."""
    bar = guest.mmio(pages=512, align=512)
    large = guest.driver("drm").ioremap(bar, WC)

    small = guest.process("Xorg").mmap(bar, WC)

    assert large.accepted
    assert small.accepted
    assert (large.leaves, small.leaves) == ((Leaves(SIZE_2M, 512, WC),), (Leaves(SIZE_4K, 512, WC),))


MIXED = Layout("mixed", default=UC, ranges=[MtrrRange(0, "256M", WB), MtrrRange(0xFD000000, "1M", WC)])


@pytest.mark.layout(MIXED)
def test_one_large_page_over_two_mtrr_types(guest: Guest) -> None:
    """ "Mapping an MTRR-type boundary with a large page is undefined" (Intel SDM vol. 3, "Large Page Size
    Considerations"): the verifier warns of it, and Linux falls back to small pages (pmd_set_huge())."""
    bar = guest.region(0xFD000000, 4 << 20)

    outcome = guest.driver("drm").ioremap(bar, UC_MINUS)

    assert outcome.verdict.accepted
    assert outcome.verdict.hazards == ("mtrr-mixed", "mtrr-uncached-combines")
    assert outcome.leaves == (Leaves(SIZE_4K, 512, UC_MINUS), Leaves(SIZE_2M, 512, UC_MINUS))
    # AMD APM vol. 2, "Combined Effect of MTRRs and PAT": UC- over WC is WC, over UC it is UC.
    assert outcome.effective_pages == (EffectiveType.WC,) * 256 + (EffectiveType.UC,) * 768


@pytest.mark.layout(MIXED)
@pytest.mark.parametrize(
    ("first", "pages"), [(0, 256), (256, 256), (1, 511), (0, 511), (512, 512)], ids=lambda number: str(number)
)
def test_what_can_not_be_one_large_page_is_no_hazard(guest: Guest, first: int, pages: int) -> None:
    bar = guest.region(0xFD000000 + first * 4096, pages * 4096)

    # The first MiB is WC.
    assert guest.verify(bar, UC_MINUS).hazards == (("mtrr-uncached-combines",) if first < 256 else ())


@gigabyte_pages
@pytest.mark.layout(
    Layout("mixed-gigabyte", default=UC, ranges=[MtrrRange(0, "256M", WB), MtrrRange(HOLE, "512M", WC)])
)
def test_one_gigabyte_page_over_two_mtrr_types(guest: Guest) -> None:
    """Each 2 MiB has one type, the whole has two: Linux takes 2 MiB pages (pud_set_huge())."""
    outcome = guest.driver("gpu").ioremap(guest.region(HOLE, GIB), UC_MINUS)

    assert outcome.verdict.hazards == ("mtrr-mixed", "mtrr-uncached-combines")
    assert outcome.leaves == (Leaves(SIZE_2M, 1 << 18, UC_MINUS),)


@pytest.mark.layout(
    Layout("mixed-gigabyte", default=UC, ranges=[MtrrRange(0, "256M", WB), MtrrRange(HOLE, "512M", WC)])
)
def test_without_gigabyte_pages_that_is_no_hazard(guest: Guest) -> None:
    assert guest.verify(guest.region(HOLE, GIB), UC_MINUS).hazards == ("mtrr-uncached-combines",)
