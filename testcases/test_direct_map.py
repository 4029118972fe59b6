"""The direct map, changed page by page: what arch/x86/mm/pat/set_memory.c does for the kernel's own parts.

Most of these functions are for modules to call no more, or never were: ``guest.kernel`` calls them by name.
Each test changes RAM of the agent's own and looks at the page tables; what isn't put back is never given out.
"""

from __future__ import annotations

import errno

import pytest

from pytest_memtype import Guest, InMemory, KernelPages, Layout, Leaves, MemType, PageSize, Region
from pytest_memtype.errors import Unavailable
from pytest_memtype.guest.faults import Fault

pytestmark = [pytest.mark.needs_module, pytest.mark.needs_config("KPROBES")]

WB, WC, UC_MINUS, WT = MemType.WB, MemType.WC, MemType.UC_MINUS, MemType.WT
SIZE_4K, SIZE_2M, SIZE_1G = PageSize.SIZE_4K, PageSize.SIZE_2M, PageSize.SIZE_1G

PAGE = 4096


def rights(pages: KernelPages) -> list[str]:
    """A text for each of the leaves: present, writable, executable, global."""
    return [
        "".join(
            letter
            for letter, has in (
                ("r", each.present),
                ("w", each.writable),
                ("x", each.executable),
                ("g", each.shared),
            )
            if has
        )
        for each in pages.rights
    ]


def sizes(pages: KernelPages) -> list[tuple[PageSize, int, MemType | None]]:
    """Page size, number and type of neighbours, whatever else their entries say.

    Since 6.15 set_memory_4k() marks the pages it was asked for, so that nobody makes a large one of them.
    """
    found: list[tuple[PageSize, int, MemType | None]] = []
    for each in pages.leaves:
        if found and found[-1][::2] == (each.page_size, each.memtype):
            found[-1] = (each.page_size, found[-1][1] + each.pages, each.memtype)
        else:
            found.append((each.page_size, each.pages, each.memtype))
    return found


def done(guest: Guest, function: str, region: Region, *more: int) -> int:
    """Call a function with the direct map's address of a region and its number of pages; its errno."""
    return guest.kernel.call(function, guest.kernel.direct(region), region.pages, *more).errno


_ALLOCATORS = (
    *("alloc_pages_current", "alloc_pages", "alloc_pages_noprof"),
    *("__alloc_pages_nodemask", "__alloc_pages", "__alloc_pages_noprof"),
)


def no_page(guest: Guest, function: str) -> Fault:
    """Have the next allocation of pages fail, which a function makes for a page table.

    The allocator's name is that of before 5.14, of before 6.10, of today, or of a kernel without NUMA.
    """
    # Looking for a function takes memory, too.
    guest.kernel.address(function)
    for name in _ALLOCATORS:
        if guest.kernel.has(name):
            return guest.faults.fail(name)
    raise Unavailable("this kernel has no allocator of pages that could be made to fail")


def present_again(guest: Guest, region: Region) -> None:
    """set_memory_p(), which compilers inline where nobody outside calls it (before 6.12); or its like."""
    if guest.kernel.has("set_memory_p"):
        assert done(guest, "set_memory_p", region) == 0
        return
    for number in range(region.pages):
        page = guest.kernel.page(region[number])
        assert guest.kernel.call("set_direct_map_default_noflush", page).errno == 0


def split(guest: Guest, pages: int = 512) -> Region:
    """RAM whose direct map has small pages, all write-back."""
    ram = guest.ram(pages=pages)
    assert done(guest, "set_memory_4k", ram) == 0
    assert guest.kernel.direct_pages(ram).leaves == (Leaves(SIZE_4K, pages, WB),)
    return ram


# --- One page of a large one -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "back", "right"),
    [("set_memory_ro", "set_memory_rw", "w"), ("set_memory_nonglobal", "set_memory_global", "g")],
    ids=["ro", "nonglobal"],
)
def test_two_pages_lose_a_right(guest: Guest, change: str, back: str, right: str) -> None:
    """The others keep theirs, each at its place, and no type changes."""
    ram = guest.ram(pages=512)
    (before,) = rights(guest.kernel.direct_pages(ram))

    assert done(guest, change, ram[3:5]) == 0

    found = guest.kernel.direct_pages(ram)
    assert found.in_order
    assert rights(found) == [before, before.replace(right, ""), before]
    assert found.leaves == (Leaves(SIZE_4K, 3, WB), Leaves(SIZE_4K, 2, WB), Leaves(SIZE_4K, 507, WB))
    assert done(guest, back, ram[3:5]) == 0
    again = guest.kernel.direct_pages(ram)
    assert (again.leaves, rights(again), again.in_order) == ((Leaves(SIZE_4K, 512, WB),), [before], True)


def test_a_page_that_is_read_only_is_clean(guest: Guest) -> None:
    """A dirty page that can't be written is a shadow stack (6.6: set_memory_ro() clears both)."""
    if guest.version < (6, 6):
        pytest.skip("Linux before 6.6 leaves read-only pages dirty")
    ram = split(guest)
    assert guest.kernel.direct_pages(ram[3]).rights[0].dirty
    assert done(guest, "set_memory_ro", ram[3]) == 0
    (found,) = guest.kernel.direct_pages(ram[3]).rights
    assert (found.writable, found.dirty) == (False, False)
    assert guest.kernel.direct_pages(ram[4]).rights[0].dirty
    assert done(guest, "set_memory_rw", ram[3]) == 0


def test_pages_that_are_not_present(guest: Guest) -> None:
    """An entry that is there again isn't global: in one that isn't present the bit means something else
    (pgprot_clear_protnone_bits())."""
    ram = guest.ram(pages=512)
    (before,) = rights(guest.kernel.direct_pages(ram))

    assert done(guest, "set_memory_np", ram[3:5]) == 0

    found = guest.kernel.direct_pages(ram)
    assert found.leaves == (Leaves(SIZE_4K, 3, WB), Leaves(SIZE_4K, 2, None), Leaves(SIZE_4K, 507, WB))
    assert rights(found) == [before, "", before]
    present_again(guest, ram[3:5])
    again = guest.kernel.direct_pages(ram)
    assert again.types == (WB,) * 512
    assert rights(guest.kernel.direct_pages(ram[3:5])) == ["rw"]
    assert again.in_order


def test_a_whole_large_page_that_is_not_present(guest: Guest) -> None:
    """It stays large, with the bit for that taken out, and comes back as it was."""
    guest.kernel.address("set_memory_p")
    ram = guest.ram(pages=512)
    assert done(guest, "set_memory_np", ram) == 0
    assert guest.kernel.direct_pages(ram).types == (None,) * 512
    present_again(guest, ram)
    again = guest.kernel.direct_pages(ram)
    assert (again.leaves, again.in_order) == ((Leaves(SIZE_2M, 512, WB),), True)


def test_execution_of_a_read_only_page(guest: Guest) -> None:
    ram = split(guest)
    (before,) = rights(guest.kernel.direct_pages(ram))
    assert "x" not in before
    assert done(guest, "set_memory_ro", ram[3]) == 0
    assert done(guest, "set_memory_x", ram[3]) == 0
    read_only = before.replace("w", "")
    assert rights(guest.kernel.direct_pages(ram)) == [before, read_only.replace("r", "rx"), before]
    assert done(guest, "set_memory_nx", ram[3]) == 0
    assert rights(guest.kernel.direct_pages(ram)) == [before, read_only, before]
    assert done(guest, "set_memory_rw", ram[3]) == 0


@pytest.mark.parametrize("page", [0, 255, 511])
def test_small_pages_on_demand(guest: Guest, page: int) -> None:
    """set_memory_4k() of one page is that of its large page, whose neighbour stays whole."""
    ram = guest.ram(pages=1024)
    (before,) = rights(guest.kernel.direct_pages(ram))
    assert done(guest, "set_memory_4k", ram[512 + page]) == 0
    found = guest.kernel.direct_pages(ram)
    assert sizes(found) == [(SIZE_2M, 512, WB), (SIZE_4K, 512, WB)]
    assert set(rights(found)) == {before}
    assert found.in_order


def test_small_pages_of_two_large_ones(guest: Guest) -> None:
    ram = guest.ram(pages=1024)
    assert done(guest, "set_memory_4k", ram[510:514]) == 0
    found = guest.kernel.direct_pages(ram)
    assert (sizes(found), found.in_order) == ([(SIZE_4K, 1024, WB)], True)


def direct_map_kib(guest: Guest) -> dict[str, int]:
    """How much of the direct map has pages of which size, as /proc/meminfo counts them."""
    lines = guest.shell("grep DirectMap /proc/meminfo").output.splitlines()
    return {
        name.removeprefix("DirectMap").rstrip(":"): int(number) for name, number, _ in map(str.split, lines)
    }


def test_a_split_is_counted(guest: Guest) -> None:
    """split_page_count(): 2 MiB less in large pages, and more in small ones. A second change splits none."""
    ram = guest.ram(pages=512)
    before = direct_map_kib(guest)
    assert done(guest, "set_memory_ro", ram[0]) == done(guest, "set_memory_rw", ram[0]) == 0
    after = direct_map_kib(guest)
    assert (after["4k"] - before["4k"], after["2M"] - before["2M"]) == (2048, -2048)


# --- Large pages that stay ---------------------------------------------------------------------------------


def test_the_type_of_a_whole_large_page(guest: Guest) -> None:
    """It stays one, whatever its type: WT has the PAT bit, bit 12 there and bit 7 in a small page."""
    ram = guest.ram(pages=512)
    for function, memtype in [
        ("_set_memory_uc", UC_MINUS),
        ("_set_memory_wb", WB),
        ("_set_memory_wc", WC),
        ("_set_memory_wb", WB),
        ("_set_memory_wt", WT),
    ]:
        assert done(guest, function, ram) == 0
        found = guest.kernel.direct_pages(ram)
        assert (found.leaves, found.in_order) == ((Leaves(SIZE_2M, 512, memtype),), True), function
    # The type that it has already splits nothing, and a split keeps the type.
    assert done(guest, "_set_memory_wt", ram[7:9]) == 0
    assert guest.kernel.direct_pages(ram).leaves == (Leaves(SIZE_2M, 512, WT),)
    assert done(guest, "_set_memory_wb", ram[7:9]) == 0
    found = guest.kernel.direct_pages(ram)
    assert found.leaves == (Leaves(SIZE_4K, 7, WT), Leaves(SIZE_4K, 2, WB), Leaves(SIZE_4K, 503, WT))
    assert found.in_order
    assert done(guest, "_set_memory_wb", ram) == 0


@pytest.mark.parametrize(
    ("first", "end", "expected"),
    [
        (100, 1024, [(SIZE_4K, 100, WB), (SIZE_4K, 412, WC), (SIZE_2M, 512, WC)]),
        (0, 1000, [(SIZE_2M, 512, WC), (SIZE_4K, 488, WC), (SIZE_4K, 24, WB)]),
        (511, 513, [(SIZE_4K, 511, WB), (SIZE_4K, 2, WC), (SIZE_4K, 511, WB)]),
    ],
    ids=["from-the-middle", "to-the-middle", "across"],
)
def test_a_range_over_two_large_pages(
    guest: Guest, first: int, end: int, expected: list[tuple[PageSize, int, MemType]]
) -> None:
    """What it covers whole stays whole, and nothing beside it changes."""
    ram = guest.ram(pages=1024)
    assert done(guest, "set_memory_wc", ram[first:end]) == 0
    found = guest.kernel.direct_pages(ram)
    assert found.leaves == tuple(Leaves(*each) for each in expected)
    assert found.in_order
    assert done(guest, "set_memory_wb", ram[first:end]) == 0
    assert guest.kernel.direct_pages(ram).types == (WB,) * 1024


# nokaslr: else the kernel's own image may lie in that gigabyte, whose pages it splits.
@pytest.mark.hardware(cpu="qemu64,+pdpe1gb", memory="2560M", cmdline="nokaslr")
@pytest.mark.layout(Layout("bare", default=WB))
def test_a_page_of_a_gigabyte(guest: Guest) -> None:
    """Its 512 parts are large again, and one of these is 512 small pages. Nothing but their size changes."""
    gigabyte = guest.region(1 << 30, 1 << 30)
    kernel = guest.kernel
    assert kernel.direct_pages(gigabyte).leaves == (Leaves(SIZE_1G, 1 << 18, WB),)
    assert done(guest, "set_memory_nonglobal", gigabyte) == 0
    whole = kernel.direct_pages(gigabyte)
    assert (whole.leaves, rights(whole)) == ((Leaves(SIZE_1G, 1 << 18, WB),), ["rw"])
    offset = 5 * (2 << 20) + 3 * PAGE + 0x123
    address = kernel.direct(gigabyte) + offset
    assert kernel.call("slow_virt_to_phys", address).returned == gigabyte.start + offset
    before = direct_map_kib(guest)

    assert kernel.call("set_memory_4k", address & ~0xFFF, 1).errno == 0

    found = kernel.direct_pages(gigabyte)
    assert sizes(found) == [(SIZE_2M, 5 * 512, WB), (SIZE_4K, 512, WB), (SIZE_2M, 506 * 512, WB)]
    assert found.in_order
    assert set(rights(found)) == {"rw"}
    after = direct_map_kib(guest)
    changed = {size: after[size] - before[size] for size in before if after[size] != before[size]}
    assert changed == {"4k": 2048, "2M": (1 << 20) - 2048, "1G": -(1 << 20)}
    assert kernel.call("slow_virt_to_phys", address).returned == gigabyte.start + offset


# --- What is flushed ---------------------------------------------------------------------------------------


def test_which_entries_of_the_tlb_are_flushed(guest: Guest) -> None:
    """One by one up to tlb_single_page_flush_ceiling (33, arch/x86/mm/tlb.c), all of them beyond that; none
    where nothing has changed (cpa_flush(), change_page_attr_set_clr())."""
    ram = split(guest)
    flushes = []
    for function, pages in [
        ("set_memory_ro", 33),
        ("set_memory_ro", 33),
        ("set_memory_ro", 34),
        ("set_memory_ro", 68),
        ("set_memory_rw", 68),
        ("set_memory_rw", 1),
        ("_set_memory_wb", 1),
        ("_set_memory_uc", 1),
        ("_set_memory_wb", 1),
    ]:
        with (
            guest.kernel.count("__cpa_flush_tlb") as each,
            guest.kernel.count("flush_tlb_all") as all_of_them,
            guest.kernel.count("__cpa_flush_all") as in_despair,
        ):
            assert done(guest, function, ram[0:pages]) == 0
            flushes.append((each.counts.calls, all_of_them.counts.calls, in_despair.counts.calls))
    one, everything, nothing = (1, 0, 0), (0, 1, 0), (0, 0, 0)
    assert flushes == [one, nothing, everything, everything, everything, nothing, nothing, one, one]


def test_whose_lines_are_flushed_from_the_caches(guest: Guest) -> None:
    """Those of each page that gets another type than write-back, and is there: cpa_flush() looks each up by
    lookup_address(). A type is gone from the caches by itself when it was none that is cached."""
    ram = split(guest)
    with guest.kernel.count("lookup_address") as looked_up:
        guest.kernel.call("slow_virt_to_phys", guest.kernel.direct(ram))
        if not looked_up.counts.calls:
            pytest.skip("lookup_address() is inlined in this kernel")
        found = []
        for function in (
            "_set_memory_uc",
            "_set_memory_wb",
            "_set_memory_wt",
            "set_memory_ro",
            "set_memory_rw",
        ):
            before = looked_up.counts.calls
            assert done(guest, function, ram[3:8]) == 0
            found.append(looked_up.counts.calls - before)
    assert found == [5, 0, 5, 0, 0]
    assert done(guest, "_set_memory_wb", ram) == 0


def test_a_split_flushes_the_large_page(guest: Guest) -> None:
    """Before any entry of the new table is changed (__split_large_page())."""
    ram = guest.ram(pages=512)
    with guest.kernel.count("flush_tlb_all") as flushed:
        assert done(guest, "set_memory_4k", ram[0]) == 0
        assert flushed.counts.calls == 1


def test_a_failure_on_the_way_flushes_all(guest: Guest) -> None:
    """The first large page is split already, the second can't be; what has changed before stays so."""
    ram = guest.ram(pages=1024)
    assert done(guest, "set_memory_4k", ram[0]) == 0
    with guest.kernel.count("__cpa_flush_all") as flushed, no_page(guest, "set_memory_ro"):
        assert done(guest, "set_memory_ro", ram[511:513]) == errno.ENOMEM
        assert flushed.counts.calls == 1
    found = guest.kernel.direct_pages(ram)
    assert sizes(found) == [(SIZE_4K, 512, WB), (SIZE_2M, 512, WB)]
    assert "w" not in rights(guest.kernel.direct_pages(ram[511]))[0]
    assert "w" in rights(guest.kernel.direct_pages(ram[510]))[0]
    assert done(guest, "set_memory_rw", ram[511:513]) == 0


# --- Errors, and what they leave ---------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["set_memory_uc", "set_memory_wc"])
def test_no_memory_to_split_with(guest: Guest, function: str) -> None:
    """Neither the page table nor the page's type keeps anything: the type can be had afterwards."""
    ram = guest.ram(pages=512)
    with no_page(guest, function):
        assert done(guest, function, ram[3:5]) == errno.ENOMEM
    assert guest.kernel.direct_pages(ram).leaves == (Leaves(SIZE_2M, 512, WB),)
    assert done(guest, "set_memory_wc", ram[3:5]) == 0
    assert guest.kernel.direct_pages(ram[2:6]).types == (WB, WC, WC, WB)
    assert done(guest, "set_memory_wb", ram[3:5]) == 0


def test_no_memory_to_split_with_on_the_way_back(guest: Guest) -> None:
    """A page that can't be made write-back keeps its type in Linux's books, too; the next try mends both."""
    ram = guest.ram(pages=512)
    assert done(guest, "set_memory_wc", ram) == 0
    with no_page(guest, "set_memory_wb"):
        assert done(guest, "set_memory_wb", ram[3]) == errno.ENOMEM
    assert guest.kernel.direct_pages(ram).leaves == (Leaves(SIZE_2M, 512, WC),)
    assert done(guest, "set_memory_uc", ram[3]) == errno.EBUSY
    assert done(guest, "set_memory_wb", ram) == 0
    assert done(guest, "set_memory_uc", ram[3]) == 0
    assert done(guest, "set_memory_wb", ram[3]) == 0


def test_a_type_for_an_array_of_pages(guest: Guest) -> None:
    """In any order, with others between them, over two large pages: those, and no others."""
    ram = guest.ram(pages=1024)
    kernel = guest.kernel
    numbers = [700, 2, 5, 0, 511, 512]
    array = [kernel.page(ram[number]) for number in numbers]
    for function, memtype in [("set_pages_array_uc", UC_MINUS), ("set_pages_array_wc", WC)]:
        assert kernel.call(function, InMemory(), len(array), memory=array).errno == 0
        found = kernel.direct_pages(ram)
        assert [n for n, each in enumerate(found.types) if each is memtype] == sorted(numbers)
        assert found.types.count(WB) == 1024 - len(numbers)
        assert found.in_order
        # Each is in Linux's books, and none of the others.
        assert done(guest, "set_memory_uc", ram[512]) == errno.EBUSY
        assert done(guest, "set_memory_uc", ram[513]) == 0
        assert done(guest, "set_memory_wb", ram[513]) == 0
        assert kernel.call("set_pages_array_wb", InMemory(), len(array), memory=array).errno == 0
        assert kernel.direct_pages(ram).types == (WB,) * 1024
    # All are free again.
    assert done(guest, "set_memory_uc", ram) == done(guest, "set_memory_wb", ram) == 0


def test_an_array_whose_first_page_has_the_type_already(guest: Guest) -> None:
    """It lies in a large page of that type, and those after it in the array don't: each counts for
    itself (__change_page_attr_set_clr())."""
    ram = guest.ram(pages=1024)
    kernel = guest.kernel
    assert done(guest, "_set_memory_uc", ram[0:512]) == 0
    array = [kernel.page(ram[number]) for number in (0, 700, 1, 900)]
    assert kernel.call("set_pages_array_uc", InMemory(), 4, memory=array).errno == 0
    found = kernel.direct_pages(ram).types
    assert [number for number, each in enumerate(found) if each is UC_MINUS] == [*range(512), 700, 900]
    assert kernel.call("set_pages_array_wb", InMemory(), 4, memory=array).errno == 0
    assert done(guest, "_set_memory_wb", ram) == 0


@pytest.mark.parametrize("function", ["set_pages_array_uc", "set_pages_array_wc"])
def test_an_array_with_a_page_twice(guest: Guest, function: str) -> None:
    """The second reservation is refused, and those before it are given back (_set_pages_array())."""
    ram = guest.ram(pages=8)
    kernel = guest.kernel
    array = [kernel.page(ram[number]) for number in (0, 3, 0, 5)]
    assert kernel.call(function, InMemory(), len(array), memory=array).errno == errno.EINVAL
    assert kernel.direct_pages(ram).types == (WB,) * 8
    assert done(guest, "set_memory_wc", ram) == done(guest, "set_memory_wb", ram) == 0


@pytest.mark.parametrize("function", ["set_pages_array_uc", "set_pages_array_wc"])
def test_an_array_without_memory_to_split_with(guest: Guest, function: str) -> None:
    ram = guest.ram(pages=512)
    array = [guest.kernel.page(ram[number]) for number in (1, 4)]
    with no_page(guest, function):
        assert guest.kernel.call(function, InMemory(), 2, memory=array).errno == errno.EINVAL
    assert guest.kernel.direct_pages(ram).leaves == (Leaves(SIZE_2M, 512, WB),)
    assert done(guest, "set_memory_wc", ram) == done(guest, "set_memory_wb", ram) == 0


def test_an_array_that_can_not_go_back(guest: Guest) -> None:
    ram = guest.ram(pages=512)
    assert done(guest, "set_memory_wc", ram) == 0
    array = [guest.kernel.page(ram[number]) for number in (1, 4)]
    with no_page(guest, "set_pages_array_wb"):
        assert guest.kernel.call("set_pages_array_wb", InMemory(), 2, memory=array).errno == errno.ENOMEM
    assert done(guest, "set_memory_uc", ram[1]) == errno.EBUSY
    assert done(guest, "set_memory_wb", ram) == 0


def test_pages_by_their_struct_page(guest: Guest) -> None:
    ram = split(guest)
    kernel = guest.kernel
    (before,) = rights(kernel.direct_pages(ram))
    page = kernel.page(ram[2])
    assert kernel.call("set_pages_uc", page, 2).errno == 0
    assert kernel.direct_pages(ram[1:5]).types == (WB, UC_MINUS, UC_MINUS, WB)
    assert done(guest, "set_memory_wc", ram[3]) == errno.EBUSY
    assert kernel.call("set_pages_wb", page, 2).errno == 0
    assert kernel.direct_pages(ram[1:5]).types == (WB,) * 4
    assert kernel.call("set_pages_ro", page, 2).errno == 0
    assert rights(kernel.direct_pages(ram[1:5])) == [before, before.replace("w", ""), before]
    assert kernel.call("set_pages_rw", page, 2).errno == 0
    assert rights(kernel.direct_pages(ram[1:5])) == [before]


def test_a_page_that_leaves_the_direct_map(guest: Guest) -> None:
    """set_direct_map_invalid_noflush(), for secret memory, BPF and vmalloc: present or not, and writable
    or not, and nothing beside it."""
    ram = guest.ram(pages=512)
    kernel = guest.kernel
    page = kernel.page(ram[3])
    present = "kernel_page_present"
    assert kernel.call(present, page).returned & 0xFF
    assert kernel.call("set_direct_map_invalid_noflush", page).errno == 0
    found = kernel.direct_pages(ram)
    assert found.leaves == (Leaves(SIZE_4K, 3, WB), Leaves(SIZE_4K, 1, None), Leaves(SIZE_4K, 508, WB))
    assert not kernel.call(present, page).returned & 0xFF
    assert kernel.call(present, kernel.page(ram[4])).returned & 0xFF
    assert kernel.call("set_direct_map_default_noflush", page).errno == 0
    found = kernel.direct_pages(ram)
    assert found.types == (WB,) * 512
    assert found.in_order
    assert "w" in rights(kernel.direct_pages(ram[3]))[0]
    assert kernel.call(present, page).returned & 0xFF


@pytest.mark.parametrize("memtype", [WC, UC_MINUS])
def test_a_page_that_leaves_the_direct_map_keeps_its_type(guest: Guest, memtype: MemType) -> None:
    """Of its entry the bits of the type stay (__set_pages_np(), 5.10 to 7.3), and so does what Linux has
    noted of the page: a process gets it with that type while the direct map hasn't got it."""
    ram = guest.ram(pages=3)
    kernel, driver = guest.kernel, guest.driver("secretmem")
    page = kernel.page(ram[1])
    changed = driver.set_memory(ram, memtype).mapping
    assert changed is not None
    assert kernel.call("set_direct_map_invalid_noflush", page).errno == 0
    assert kernel.direct_pages(ram).types == (memtype, None, memtype)
    assert driver.page_table(changed, guest.registers()[0]) == (memtype, None, memtype)
    process = guest.process("X")
    mapped = process.mmap(ram[1], WB)
    assert mapped.verdict.accepted
    assert mapped.granted is memtype
    process.exit()
    assert kernel.call("set_direct_map_default_noflush", page).errno == 0
    assert kernel.direct_pages(ram).types == (memtype,) * 3
    driver.release(changed)
    assert kernel.direct_pages(ram).types == (WB,) * 3
    assert kernel.call("kernel_page_present", page).returned & 0xFF


def test_a_page_with_a_machine_check(guest: Guest) -> None:
    """set_mce_nospec() names it by an address with another top bit, so that nobody speculates there."""
    ram = guest.ram(pages=512)
    number = ram[3].start // PAGE
    assert guest.kernel.call("set_mce_nospec", number).errno == 0
    assert guest.kernel.direct_pages(ram).types == (WB,) * 3 + (None,) + (WB,) * 508
    assert guest.kernel.call("clear_mce_nospec", number).errno == 0
    found = guest.kernel.direct_pages(ram)
    assert (found.types, found.in_order) == ((WB,) * 512, True)


@pytest.mark.parametrize("function", ["set_memory_encrypted", "set_memory_decrypted"])
def test_a_guest_that_is_not_encrypted(guest: Guest, function: str) -> None:
    """Nothing is to be done, and nothing is."""
    ram = guest.ram(pages=512)
    before = guest.kernel.direct_pages(ram)
    assert done(guest, function, ram[3]) == 0
    assert guest.kernel.direct_pages(ram) == before


# --- Other addresses of the same pages ----------------------------------------------------------------------


class Vmalloc:
    """Two pages that vmalloc() has mapped, each in small pages; their direct map is in small pages, too."""

    def __init__(self, guest: Guest) -> None:
        self.kernel = guest.kernel
        name = "vmalloc" if guest.kernel.has("vmalloc") else "vmalloc_noprof"
        self.address = guest.kernel.call(name, 2 * PAGE).returned
        start = guest.kernel.pages(self.address, 1).starts[0]
        assert start is not None
        self.page = guest.region(start, PAGE)
        assert done(guest, "set_memory_4k", self.page) == 0

    def call(self, function: str) -> None:
        """Change the first page, by vmalloc()'s address."""
        assert self.kernel.call(function, self.address, 1).errno == 0

    def rights(self) -> tuple[str, str]:
        """The rights of the first page at both addresses: vmalloc()'s, and the direct map's."""
        here, there = self.kernel.pages(self.address, 1), self.kernel.direct_pages(self.page)
        return rights(here)[0].replace("g", ""), rights(there)[0].replace("g", "")

    def types(self) -> tuple[MemType | None, ...]:
        return (*self.kernel.pages(self.address, 2).types, *self.kernel.direct_pages(self.page).types)

    def free(self) -> None:
        self.kernel.call("vfree", self.address)


def test_a_change_by_another_address_reaches_the_direct_map(guest: Guest) -> None:
    """cpa_process_alias(): rights and types alike, and all of the TLB is flushed. The second page stays."""
    area = Vmalloc(guest)
    assert area.rights() == ("rw", "rw")
    with guest.kernel.count("flush_tlb_all") as flushed:
        area.call("set_memory_ro")
        assert flushed.counts.calls == 1
    assert area.rights() == ("r", "r")
    area.call("set_memory_rw")
    assert area.rights() == ("rw", "rw")
    for function, memtype in [("_set_memory_wc", WC), ("_set_memory_wb", WB), ("_set_memory_uc", UC_MINUS)]:
        area.call(function)
        assert area.types() == (memtype, WB, memtype)
    area.call("_set_memory_wb")
    area.free()


def test_a_change_by_the_direct_map_reaches_no_other_address(guest: Guest) -> None:
    """Nobody knows where else the page is mapped: callers must."""
    area = Vmalloc(guest)
    assert done(guest, "set_memory_ro", area.page) == 0
    assert area.rights() == ("rw", "r")
    assert done(guest, "set_memory_rw", area.page) == 0
    area.free()


def test_execution_is_not_for_the_direct_map(guest: Guest) -> None:
    """cpa_process_alias() leaves its NX bit alone, which is always set; since 6.2, and in 6.1 by now."""
    area = Vmalloc(guest)
    area.call("set_memory_ro")
    area.call("set_memory_x")
    here, direct = area.rights()
    assert here == "rx"
    assert direct == "r" or guest.version < (6, 1)
    area.call("set_memory_nx")
    area.call("set_memory_rw")
    assert area.rights() == ("rw", "rw")
    area.free()


def test_not_present_at_one_address_alone(guest: Guest) -> None:
    """set_memory_np_noalias(), for pages that stay in use elsewhere; set_memory_np() is for all."""
    guest.kernel.address("set_memory_p")
    area = Vmalloc(guest)
    area.call("set_memory_np")
    assert area.rights() == ("", "")
    area.call("set_memory_p")
    assert area.rights() == ("rw", "rw")
    area.call("set_memory_np_noalias")
    assert area.rights() == ("", "rw")
    area.call("set_memory_p")
    assert area.rights() == ("rw", "rw")
    area.free()


def test_a_type_for_the_kernel_s_own_text(guest: Guest) -> None:
    """Text has two addresses. The one it runs at follows the direct map in type, page by page, and stays
    executable and read-only."""
    kernel = guest.kernel
    text = kernel.address("memtype_reserve") & ~0xFFF
    (start,) = kernel.pages(text, 1).starts
    assert start is not None
    page = guest.region(start, PAGE)
    assert done(guest, "_set_memory_uc", page) == 0
    found = kernel.pages(text - PAGE, 3)
    assert found.types == (WB, UC_MINUS, WB)
    assert kernel.direct_pages(page).types == (UC_MINUS,)
    assert {text.replace("g", "") for text in rights(found)} == {"rx"}
    assert done(guest, "_set_memory_wb", page) == 0
    assert kernel.pages(text - PAGE, 3).types == (WB, WB, WB)


def test_text_stays_executable(guest: Guest) -> None:
    """protect_kernel_text(): the call succeeds, and changes nothing."""
    text = guest.kernel.address("memtype_reserve") & ~0xFFF
    assert guest.kernel.call("set_memory_nx", text, 1).errno == 0
    assert [each.replace("g", "") for each in rights(guest.kernel.pages(text, 1))] == ["rx"]


def test_constants_stay_read_only(guest: Guest) -> None:
    """protect_rodata() goes by the page, so that no address of it is a way round."""
    symbol = guest.shell("grep ' __start_rodata$' /proc/kallsyms").output.split()
    rodata = int(symbol[0], 16)
    kernel = guest.kernel
    (start,) = kernel.pages(rodata, 1).starts
    assert start is not None
    for address in (rodata, kernel.direct(start)):
        assert kernel.call("set_memory_rw", address, 1).errno == 0
        assert rights(kernel.pages(rodata, 1))[0].replace("g", "") == "r"
        assert rights(kernel.pages(kernel.direct(start), 1))[0].replace("g", "") == "r"


# --- Looking up --------------------------------------------------------------------------------------------


def test_looking_up_an_address(guest: Guest) -> None:
    """The level of the entry (PG_LEVEL_4K is 1), and the physical address that it stands for."""
    ram = guest.ram(pages=512)
    kernel = guest.kernel
    address = kernel.direct(ram) + 5 * PAGE + 0x123
    levels = []
    for _ in range(2):
        found = kernel.call("lookup_address", address, InMemory())
        assert found.returned
        levels.append(found.memory[0] & 0xFFFFFFFF)
        assert kernel.call("slow_virt_to_phys", address).returned == ram.start + 5 * PAGE + 0x123
        assert done(guest, "set_memory_4k", ram[0]) == 0
    assert levels == [2, 1]
    assert kernel.call("lookup_pmd_address", address).returned
    # The hole between vmalloc()'s addresses and those of struct pages, whichever way the kernel is mapped.
    assert kernel.call("lookup_address", 0xFFFFFF7F00000000, InMemory()).returned == 0
