"""ioremap() byte by byte, its failures, and entries of large pages: arch/x86/mm/ioremap.c, pgtable.c."""

from __future__ import annotations

import errno

import pytest

from pytest_memtype import Guest, InMemory, Layout, Leaves, MemType, MtrrRange, PageSize, Region

pytestmark = [pytest.mark.needs_module, pytest.mark.needs_config("KPROBES")]

WB, WC, UC, UC_MINUS, WT = (MemType[name] for name in ("WB", "WC", "UC", "UC_MINUS", "WT"))

PAGE = 4096

# Bits of an entry: present, writable, PWT, PCD, PAT of a small page, large, PAT of a large one, no execution.
P, RW, PWT, PCD, PAT_SMALL, PS, PAT_LARGE, NX = 1, 2, 8, 16, 1 << 7, 1 << 7, 1 << 12, 1 << 63


def listed(guest: Guest, region: Region) -> list[tuple[Region, MemType]]:
    return [(each.region, each.memtype) for each in guest.memtype_list(region)]


@pytest.mark.parametrize(
    ("offset", "size", "pages"),
    [(0, 1, 1), (0xFFF, 1, 1), (0xFFF, 2, 2), (0x123, 0x1000, 2), (0, 0x1001, 2), (0, 0x2000, 2)],
    ids=hex,
)
def test_bytes_of_a_page(guest: Guest, offset: int, size: int, pages: int) -> None:
    """The address has the offset, and whole pages are mapped and reserved: those that the bytes are in."""
    bar = guest.mmio(pages=4)
    kernel = guest.kernel
    for function, memtype in [
        ("ioremap", UC_MINUS),
        ("ioremap_wc", WC),
        ("ioremap_wt", WT),
        ("ioremap_uc", UC),
    ]:
        address = kernel.call(function, bar.start + offset, size).returned
        assert address % PAGE == offset
        found = kernel.pages(address - offset, pages, start=bar.start)
        assert (found.types, found.in_order) == ((memtype,) * pages, True)
        # The page behind is nobody's: vmalloc() leaves one between two areas.
        assert kernel.pages(address - offset + pages * PAGE, 1).types == (None,)
        assert listed(guest, bar) == [(bar[0:pages], memtype)]
        kernel.call("iounmap", address)
        assert listed(guest, bar) == []
        assert kernel.pages(address - offset, pages).types == (None,) * pages


def test_sizes_that_are_none(guest: Guest) -> None:
    """Nothing, and what ends before it begins."""
    bar = guest.mmio(pages=1)
    for size in (0, (1 << 64) - bar.start + 1, (1 << 64) - 1):
        assert guest.kernel.call("ioremap", bar.start, size).returned == 0
    assert listed(guest, bar) == []


@pytest.mark.expect_oops(match="__ioremap_caller")
def test_an_address_that_the_cpu_has_not(guest: Guest) -> None:
    """More bits than MAXPHYADDR: refused with a warning, before anything is reserved (phys_addr_valid())."""
    beyond = 1 << guest.registers()[0].physical_bits
    for function in ("ioremap", "ioremap_wc", "ioremap_cache"):
        assert guest.kernel.call(function, beyond, PAGE).returned == 0
    assert guest.memtype_list()[-1].region.end < beyond
    assert sum("invalid physical address" in line for line in guest.log) == 3


def test_a_mapping_that_is_given_back_twice(guest: Guest) -> None:
    """iounmap() complains, and leaves another mapping of the same memory and its books."""
    bar, kernel = guest.mmio(pages=2), guest.kernel
    first, second = (kernel.call("ioremap_wc", bar.start, 2 * PAGE).returned for _ in range(2))
    for times in range(2):
        kernel.call("iounmap", first)
        assert any("iounmap: bad address" in line for line in guest.log) == bool(times)
    assert kernel.pages(second, 2, start=bar.start).types == (WC, WC)
    assert listed(guest, bar) == [(bar, WC)]
    kernel.call("iounmap", second)
    assert listed(guest, bar) == []


@pytest.mark.expect_oops(match="iounmap")
def test_iounmap_of_the_direct_map(guest: Guest) -> None:
    if guest.version < (6, 12):
        pytest.skip("before 6.12 (is_ioremap_addr()) iounmap() says nothing of addresses below high_memory")
    window = guest.region(0xA0000, PAGE)
    guest.kernel.call("iounmap", guest.kernel.direct(window))
    assert len(guest.reports()) == 1
    assert guest.kernel.direct_pages(window).rights[0].present


def test_the_direct_map_follows(guest: Guest) -> None:
    """ioremap_change_attr() has each type but UC and WP, and books nothing: that is its caller's."""
    ram, kernel = guest.ram(pages=4), guest.kernel

    def change(mode: int) -> tuple[MemType | None, ...]:
        """The number of enum page_cache_mode; there is no UC here, which is UC- (5.10 to 7.3)."""
        assert kernel.call("ioremap_change_attr", kernel.direct(ram[1]), 2 * PAGE, mode).errno == 0
        return kernel.direct_pages(ram).types

    for mode, memtype in [(1, WC), (4, WT), (2, UC_MINUS), (3, UC_MINUS)]:
        assert change(mode) == (WB, memtype, memtype, WB)
        assert change(0) == (WB,) * 4
    # For UC- a bit is set and none cleared (_set_memory_uc()), and WT has all three: it stays.
    assert change(4) == change(2) == (WB, WT, WT, WB)
    assert change(0) == (WB,) * 4
    assert listed(guest, ram) == []


@pytest.mark.parametrize(
    ("function", "returns"),
    [
        ("memtype_reserve", -errno.ENOMEM),
        ("get_vm_area_caller", 0),
        ("memtype_kernel_map_sync", -errno.EINVAL),
        ("ioremap_page_range", -errno.ENOMEM),
    ],
)
@pytest.mark.parametrize("memtype", [WC, UC_MINUS], ids=lambda memtype: memtype.name)
def test_each_step_may_fail(guest: Guest, function: str, returns: int, memtype: MemType) -> None:
    """And nothing is left of those before it: another type can be had at once."""
    bar = guest.mmio(pages=2)
    drm = guest.driver("drm")
    if not guest.kernel.has(function):
        pytest.skip(f"{function}() is inlined in this kernel")
    with guest.faults.fail(function, returns=returns) as fault:
        assert drm.ioremap(bar, memtype).kernel.rejected
        assert fault.counts.failed == 1
    assert listed(guest, bar) == []
    other = drm.ioremap(bar, WT)
    assert (other.granted, listed(guest, bar)) == (WT, [(bar, WT)])


def test_device_memory_of_dev_mem(guest: Guest) -> None:
    """xlate_dev_mem_ptr() maps the page for read() and write(), and gives the byte's address."""
    bar = guest.mmio(pages=2)
    kernel = guest.kernel
    address = kernel.call("xlate_dev_mem_ptr", bar.start + 0x18).returned
    assert address % PAGE == 0x18
    assert kernel.pages(address & ~0xFFF, 1, start=bar.start).in_order
    assert [each.region for each in guest.memtype_list(bar)] == [bar[0]]
    kernel.call("unxlate_dev_mem_ptr", bar.start + 0x18, address)
    assert listed(guest, bar) == []
    # RAM is in the direct map already, and stays there.
    ram = guest.ram(pages=1)
    address = kernel.call("xlate_dev_mem_ptr", ram.start + 0x18).returned
    assert address == kernel.direct(ram) + 0x18
    kernel.call("unxlate_dev_mem_ptr", ram.start + 0x18, address)
    assert kernel.direct_pages(ram).types == (WB,)


def test_memremap_by_its_flags(guest: Guest) -> None:
    """WB is 1, WT 2, WC 4 (linux/io.h). The first that can be had, in this order; none without a flag."""
    kernel, ram, bar = guest.kernel, guest.ram(pages=1), guest.mmio(pages=2)
    assert kernel.call("memremap", bar.start, PAGE, 0).returned == 0
    assert kernel.call("memremap", ram.start + 5, 8, 1).returned == kernel.direct(ram) + 5
    for flags, memtype in [(2, WT), (4, WC), (2 | 4, WT)]:
        address = kernel.call("memremap", bar.start + 5, PAGE, flags).returned
        assert address % PAGE == 5
        assert kernel.pages(address & ~0xFFF, 2, start=bar.start).types == (memtype,) * 2
        assert listed(guest, bar) == [(bar, memtype)]
        kernel.call("memunmap", address)
        assert listed(guest, bar) == []
    # What it gave of the direct map stays mapped when it is given back.
    kernel.call("memunmap", kernel.direct(ram) + 5)
    assert kernel.direct_pages(ram).types == (WB,)


MIXED = Layout("mixed", default=UC, ranges=[MtrrRange(0, "256M", WB), MtrrRange(0xFD000000, "1M", WC)])


@pytest.mark.layout(MIXED)
@pytest.mark.parametrize(
    ("level", "size", "mixed"),
    [("pmd", PageSize.SIZE_2M, 0xFD000000), ("pud", PageSize.SIZE_1G, 0)],
    ids=["2M", "1G"],
)
def test_the_entry_of_a_large_page(guest: Guest, level: str, size: int, mixed: int) -> None:
    """One that may be written over a free entry or another large one, never over a table; with its PAT bit at
    bit 12; and only where all of it has one MTRR type."""
    kernel = guest.kernel
    start = 64 << 30
    if level == "pud" and guest.version < (6, 5):
        # Before 6.5 one that begins with WB may be mixed; since, one that begins with UC (type_merge()).
        mixed = 0xC0000000
    table = 0x1234067

    def set_huge(before: int, address: int, prot: int) -> tuple[int, int]:
        called = kernel.call(f"{level}_set_huge", InMemory(3), address, prot, memory=[7, 7, 7, before, 7])
        assert called.memory[:3] + called.memory[4:6] == (7, 7, 7, 7, 0)
        return called.number, called.memory[3]

    for small, large in [(0, 0), (PCD, PCD), (PWT | PCD | PAT_SMALL, PWT | PCD | PAT_LARGE)]:
        assert set_huge(0, start, P | RW | NX | small) == (1, start | P | RW | NX | PS | large)
    other = size << 3 | P | RW | PS
    assert set_huge(other, start, P | RW) == (1, start | P | RW | PS)
    assert set_huge(table, start, P | RW) == (0, table)
    assert set_huge(0, mixed, P | RW) == (0, 0)

    def clear_huge(before: int) -> tuple[int, int]:
        called = kernel.call(f"{level}_clear_huge", InMemory(), memory=[before])
        return called.number, called.memory[0]

    assert clear_huge(other) == (1, 0)
    assert clear_huge(table) == (0, table)
    assert clear_huge(0) == (0, 0)


@pytest.mark.layout(Layout("bare", default=WB))
def test_large_pages_of_ioremap_end_with_it(guest: Guest) -> None:
    """3 MiB: a large page and small ones; afterwards neither is there."""
    bar = guest.mmio(pages=768, align=512)
    kernel = guest.kernel
    address = kernel.call("ioremap_wt", bar.start, bar.size).returned
    found = kernel.pages(address, 768, start=bar.start)
    assert found.leaves == (Leaves(PageSize.SIZE_2M, 512, WT), Leaves(PageSize.SIZE_4K, 256, WT))
    assert found.in_order
    kernel.call("iounmap", address)
    assert kernel.pages(address, 768).types == (None,) * 768
    assert listed(guest, bar) == []
