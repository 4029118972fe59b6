"""The calls below ioremap() and mmap(): memtype_reserve(), memtype_free() and what builds on them.

arch/x86/mm/pat/memtype.c has them for the kernel's own parts alone. Types are Linux' enum page_cache_mode.
"""

from __future__ import annotations

import enum
import errno

import pytest

from pytest_memtype import Guest, InMemory, Layout, MemType, Region
from pytest_memtype.errors import SyscallRefused

pytestmark = [pytest.mark.needs_module, pytest.mark.needs_config("KPROBES")]

WB, WC, UC, UC_MINUS, WT, WP = (MemType[name] for name in ("WB", "WC", "UC", "UC_MINUS", "WT", "WP"))

PAGE = 4096


class Mode(enum.IntEnum):
    """enum page_cache_mode (arch/x86/include/asm/pgtable_types.h, 5.10 to 7.3)."""

    WB = 0
    WC = 1
    UC_MINUS = 2
    UC = 3
    WT = 4
    WP = 5


def reserve(guest: Guest, region: Region, mode: Mode, function: str = "memtype_reserve") -> tuple[int, int]:
    """The errno, and the type that Linux names instead; what was in the memory where it names none."""
    arguments: tuple[int | InMemory, ...] = (region.start, region.end, mode, InMemory())
    unset = 0xFF
    if function == "memtype_reserve_io":
        # It has the wish in the same place.
        arguments, unset = (region.start, region.end, InMemory()), int(mode)
    called = guest.kernel.call(function, *arguments, memory=[unset])
    return called.errno, called.memory[0] & 0xFFFFFFFF


def free(guest: Guest, region: Region) -> int:
    return guest.kernel.call("memtype_free", region.start, region.end).errno


def listed(guest: Guest, region: Region) -> list[tuple[Region, MemType]]:
    return [(each.region, each.memtype) for each in guest.memtype_list(region)]


def end_of_ram(guest: Guest) -> int:
    lines = guest.shell("cat /proc/iomem").output.splitlines()
    ram = [line for line in lines if line.endswith(" : System RAM") and not line.startswith(" ")]
    return int(ram[-1].partition("-")[2].partition(" ")[0], 16) + 1


def test_device_memory_has_one_type(guest: Guest) -> None:
    """Who takes what there is gets it named; who doesn't is refused, and nothing of the request stays."""
    bar = guest.mmio(pages=4)
    assert reserve(guest, bar, Mode.WC) == (0, Mode.WC)
    assert reserve(guest, bar[1:3], Mode.UC_MINUS) == (0, Mode.WC)
    assert listed(guest, bar) == [(bar, WC), (bar[1:3], WC)]
    # No place for another type: the fourth argument is NULL.
    insisting = guest.kernel.call("memtype_reserve", bar.start, bar.end, Mode.UC_MINUS, 0)
    assert insisting.errno == errno.EBUSY
    assert guest.kernel.call("memtype_reserve", bar.start, bar.end, Mode.WC, 0).errno == 0
    assert listed(guest, bar) == [(bar, WC), (bar, WC), (bar[1:3], WC)]
    assert free(guest, bar) == free(guest, bar[1:3]) == free(guest, bar) == 0
    assert listed(guest, bar) == []


@pytest.mark.layout(Layout("bare", default=WB))
@pytest.mark.parametrize("mode", Mode, ids=lambda mode: mode.name)
def test_each_type_of_device_memory(guest: Guest, mode: Mode) -> None:
    bar = guest.mmio(pages=2)
    assert reserve(guest, bar, mode) == (0, mode)
    assert listed(guest, bar) == [(bar, MemType[mode.name])]
    assert free(guest, bar) == 0


def test_what_is_not_reserved_can_not_be_freed(guest: Guest) -> None:
    """Nor a part of a reservation, from its start or out of its middle; and nothing changes."""
    bar = guest.mmio(pages=8)
    assert free(guest, bar) == errno.EINVAL
    assert reserve(guest, bar, Mode.WC) == (0, Mode.WC)
    around = guest.region(bar.start - PAGE, bar.size + 2 * PAGE)
    for part in (bar[0:4], bar[2:6], bar[0:7], around):
        assert free(guest, part) == errno.EINVAL
    assert listed(guest, bar) == [(bar, WC)]
    assert free(guest, bar) == 0


def test_the_end_of_a_reservation(guest: Guest) -> None:
    """mremap() to a smaller size frees it, and the rest goes on (memtype_erase(), since 4.5)."""
    if guest.version >= (6, 16):
        pytest.skip("since 6.16 a mapping is tracked as a whole, and mremap() frees no part of it")
    bar = guest.mmio(pages=8)
    assert reserve(guest, bar, Mode.WC) == (0, Mode.WC)
    assert free(guest, bar[5:8]) == 0
    assert listed(guest, bar) == [(bar[0:5], WC)]
    assert free(guest, bar[5:8]) == errno.EINVAL
    assert reserve(guest, bar[5:8], Mode.UC_MINUS) == (0, Mode.UC_MINUS)
    assert free(guest, bar[0:5]) == free(guest, bar[5:8]) == 0
    assert listed(guest, bar) == []


def test_pages_of_ram_are_tagged_once(guest: Guest) -> None:
    """reserve_ram_pages_type(): a page that isn't write-back any more is refused, whoever asks, and the type
    that it has is named. There is no tag for WP."""
    ram = guest.ram(pages=4)
    for mode in (Mode.WC, Mode.UC_MINUS, Mode.WT):
        assert reserve(guest, ram[1:3], mode) == (0, mode)
        for again in (mode, Mode.WB):
            assert reserve(guest, ram, again) == (errno.EBUSY, mode)
        # Of those in front none was tagged.
        assert reserve(guest, ram[0], Mode.UC_MINUS) == (0, Mode.UC_MINUS)
        assert free(guest, ram) == 0
        assert reserve(guest, ram, Mode.WB) == (0, Mode.WB)
    assert reserve(guest, ram, Mode.WP) == (errno.EINVAL, Mode.UC_MINUS)
    assert listed(guest, ram) == []
    # Books alone: the direct map isn't theirs.
    assert guest.kernel.direct_pages(ram).types == (WB,) * 4


def test_ram_and_what_is_none(guest: Guest) -> None:
    """What begins below RAM and ends in it has no one way to be tracked. What begins in RAM counts as RAM,
    whatever comes behind (pagerange_is_ram_callback(), 5.10 to 7.3)."""
    beyond = guest.region(0xFF000, 2 * PAGE)
    assert reserve(guest, beyond, Mode.WC)[0] == errno.EINVAL
    assert free(guest, beyond) == errno.EINVAL
    end = end_of_ram(guest)
    across, last = guest.region(end - PAGE, 2 * PAGE), guest.region(end - PAGE, PAGE)
    # Behind the tables of ACPI, which lie where RAM ends, and which the kernel has mapped.
    behind = guest.region(end + 0x10000, PAGE)
    assert reserve(guest, across, Mode.UC_MINUS) == (0, Mode.UC_MINUS)
    assert reserve(guest, last, Mode.WC) == (errno.EBUSY, Mode.UC_MINUS)
    assert across not in [region for region, _ in listed(guest, across)]
    assert free(guest, across) == 0
    assert reserve(guest, last, Mode.WC) == (0, Mode.WC)
    assert free(guest, last) == 0
    assert reserve(guest, behind, Mode.UC_MINUS) == (0, Mode.UC_MINUS)
    assert listed(guest, behind) == [(behind, UC_MINUS)]
    assert free(guest, behind) == 0


def test_the_window_of_graphics_cards_is_not_tracked(guest: Guest) -> None:
    """is_ISA_range(): from 640 KiB to 1 MiB all is write-back, whatever is asked for, and freeing it is fine.
    Below that the first megabyte counts as device memory (pat_pagerange_is_ram())."""
    for region in (guest.region(0xA0000, 0x60000), guest.region(0xA0000, PAGE), guest.region(0xFF000, PAGE)):
        assert reserve(guest, region, Mode.WC) == (0, Mode.WB)
        assert free(guest, region) == 0
        assert listed(guest, region) == []
    for region in (guest.region(0x9F000, 2 * PAGE), guest.region(0, 1 << 20)):
        assert reserve(guest, region, Mode.WC) == (0, Mode.WC)
        assert (region, WC) in listed(guest, region)
        assert free(guest, region) == 0
        assert (region, WC) not in listed(guest, region)


def test_addresses_with_their_top_bit_set(guest: Guest) -> None:
    """Those of set_mce_nospec(): sanitize_phys() takes it off, at both ends."""
    bar = guest.mmio(pages=2)
    top = 1 << 63
    called = guest.kernel.call("memtype_reserve", bar.start | top, bar.end | top, Mode.WC, InMemory())
    assert called.errno == 0
    assert listed(guest, bar) == [(bar, WC)]
    assert guest.kernel.call("memtype_free", bar.start | top, bar.end | top).errno == 0
    assert listed(guest, bar) == []


@pytest.mark.layout(Layout("bare", default=WB))
def test_which_types_no_mtrr_can_override(guest: Guest) -> None:
    """pat_pfn_immune_to_uc_mtrr(), for KVM: UC, UC- and WC. Device memory that nobody has is UC-."""
    ram, bar = guest.ram(pages=1), guest.mmio(pages=1)

    def immune(region: Region) -> bool:
        called = guest.kernel.call("pat_pfn_immune_to_uc_mtrr", region.start // PAGE)
        return bool(called.returned & 0xFF)

    assert (immune(ram), immune(bar), immune(guest.region(0xA0000, PAGE))) == (False, True, False)
    found = {}
    for mode in Mode:
        assert reserve(guest, bar, mode) == (0, mode)
        found[mode] = immune(bar)
        assert free(guest, bar) == 0
    assert [mode for mode, yes in found.items() if yes] == [Mode.WC, Mode.UC_MINUS, Mode.UC]
    for mode in (Mode.WC, Mode.UC_MINUS, Mode.WT):
        assert reserve(guest, ram, mode) == (0, mode)
        assert immune(ram) is (mode is not Mode.WT)
        assert free(guest, ram) == 0


@pytest.mark.layout(Layout("bare", default=WB))
def test_a_reservation_that_insists(guest: Guest) -> None:
    """memtype_reserve_io() takes another type only where ioremap() would, and leaves nothing where not."""
    bar = guest.mmio(pages=2)
    for there, asked, expected in [
        (Mode.UC_MINUS, Mode.WC, Mode.UC_MINUS),
        (Mode.WC, Mode.UC_MINUS, Mode.WC),
        (Mode.WB, Mode.WC, None),
        (Mode.WC, Mode.WB, Mode.WC),
        (Mode.WB, Mode.UC_MINUS, None),
        (Mode.WT, Mode.UC_MINUS, Mode.WT),
        (Mode.WT, Mode.WC, Mode.WT),
        (Mode.WC, Mode.WT, None),
        (Mode.WB, Mode.WT, None),
        (Mode.UC_MINUS, Mode.WT, Mode.UC_MINUS),
    ]:
        assert reserve(guest, bar, there) == (0, there)
        found = reserve(guest, bar, asked, "memtype_reserve_io")
        if expected is None:
            assert found[0] == errno.EBUSY, (there, asked)
        else:
            assert found == (0, expected), (there, asked)
            assert len(listed(guest, bar)) == 2
            guest.kernel.call("memtype_free_io", bar.start, bar.end)
        assert listed(guest, bar) == [(bar, MemType[there.name])]
        assert free(guest, bar) == 0


def test_ram_has_its_direct_map_changed_along(guest: Guest) -> None:
    """memtype_kernel_map_sync(); where that fails, the reservation is given back."""
    ram = guest.ram(pages=4)
    with guest.faults.fail("ioremap_change_attr", returns=-errno.ENOMEM):
        assert reserve(guest, ram[1:3], Mode.WC, "memtype_reserve_io")[0] == errno.EBUSY
    assert guest.kernel.direct_pages(ram).types == (WB,) * 4
    assert reserve(guest, ram[1:3], Mode.WC, "memtype_reserve_io") == (0, Mode.WC)
    assert guest.kernel.direct_pages(ram).types == (WB, WC, WC, WB)
    # Freeing leaves the direct map as it is (5.10 to 7.3): who asked puts it back.
    guest.kernel.call("memtype_free_io", ram[1:3].start, ram[1:3].end)
    assert guest.kernel.call("set_memory_wb", guest.kernel.direct(ram), 4).errno == 0
    assert guest.kernel.direct_pages(ram).types == (WB,) * 4


def test_protections(guest: Guest) -> None:
    """The bits of Linux' slots: WC is 1 (PWT), WT 7 (PAT, PCD, PWT), and the other bits stay."""
    for prot in (0x63, 0x8000000000000163):
        assert guest.kernel.call("pgprot_writecombine", prot).returned == prot | 1 << 3
        assert guest.kernel.call("pgprot_writethrough", prot).returned == prot | 1 << 3 | 1 << 4 | 1 << 7


def test_a_mapping_that_fails_midway(guest: Guest) -> None:
    """remap_pfn_range() has pages in the table already, when there is no memory for the next table: neither
    they nor the reservation of the whole stay."""
    bar = guest.mmio(pages=1024, align=512)
    process = guest.process("X")
    with guest.faults.fail("__pte_alloc", task=process, after=1, returns=-errno.ENOMEM) as fault:
        outcome = process.mmap(bar, WC)
        assert fault.counts.failed == 1
    assert outcome.kernel is not None
    assert outcome.kernel.errno == errno.ENOMEM
    assert outcome.mapping is None
    assert listed(guest, bar) == []
    assert guest.tracked(bar) == ()
    # Nobody is in the way of another type.
    assert guest.process("Y").mmap(bar, UC_MINUS).granted is UC_MINUS


# Where it isn't inlined memtype_reserve() ends with a jump to it, and is in no trace.
@pytest.mark.expect_oops(match="memtype_reserve|reserve_ram_pages_type")
def test_no_page_of_ram_is_uc(guest: Guest) -> None:
    """Linux warns of whoever asks, and tags it UC- (reserve_ram_pages_type(), 5.10 to 7.3)."""
    ram = guest.ram(pages=2)
    assert reserve(guest, ram, Mode.UC) == (0, Mode.UC_MINUS)
    assert reserve(guest, ram, Mode.WC) == (errno.EBUSY, Mode.UC_MINUS)
    assert free(guest, ram) == 0
    assert reserve(guest, ram, Mode.WC) == (0, Mode.WC)
    assert free(guest, ram) == 0


@pytest.mark.expect_oops(match="memtype_reserve")
@pytest.mark.parametrize("pages", [0, -1])
def test_a_range_that_ends_before_it_begins(guest: Guest, pages: int) -> None:
    bar = guest.mmio(pages=2)
    middle = bar[1].start
    called = guest.kernel.call("memtype_reserve", middle, middle + pages * PAGE, Mode.WC, InMemory())
    assert called.errno == errno.EINVAL
    assert listed(guest, bar) == []
    assert any("memtype_reserve failed: [mem" in line for line in guest.log)


# kzalloc() of a size that the compiler knows: 6.10 to 7.3, 6.1 to 6.9, and before.
ALLOCATIONS = ("__kmalloc_cache_noprof", "kmalloc_trace", "kmem_cache_alloc_trace")


def test_without_memory_for_a_reservation(guest: Guest) -> None:
    bar = guest.mmio(pages=2)
    allocation = next((each for each in ALLOCATIONS if guest.kernel.has(each)), None)
    if allocation is None:
        pytest.skip(f"this kernel has none of {', '.join(ALLOCATIONS)}")
    # Others of the agent's task come before it.
    for number in range(20):
        with guest.faults.fail(allocation, after=number, returns=0):
            error, _ = reserve(guest, bar, Mode.WC)
        if error:
            break
        assert free(guest, bar) == 0
    assert error == errno.ENOMEM
    assert listed(guest, bar) == []


def test_a_reservation_that_insists_on_a_mixture(guest: Guest) -> None:
    """Neither of two types is one of both: memtype_reserve_io() says what memtype_reserve() does."""
    bar = guest.mmio(pages=2)
    assert reserve(guest, bar[0], Mode.WC) == (0, Mode.WC)
    assert reserve(guest, bar[1], Mode.UC_MINUS) == (0, Mode.UC_MINUS)
    assert reserve(guest, bar, Mode.WC, "memtype_reserve_io")[0] == errno.EBUSY
    assert listed(guest, bar) == [(bar[0], WC), (bar[1], UC_MINUS)]
    assert free(guest, bar[0]) == free(guest, bar[1]) == 0


@pytest.mark.needs_config("DEVMEM")
def test_a_process_whose_direct_map_can_not_follow(guest: Guest) -> None:
    """Below 1 MiB RAM is reserved as device memory is, and the direct map has it: where that can't be changed
    along, mmap() fails and the reservation is given back (reserve_pfn_range(); pfnmap_track() since 6.16)."""
    low, process = guest.region(0x8000, PAGE), guest.process("X")
    before = listed(guest, low)
    with guest.faults.fail("ioremap_change_attr", task=process, returns=-errno.ENOMEM) as fault:
        outcome = process.mmap(low, UC_MINUS, via="devmem")
        assert fault.counts.failed == 1
    assert outcome.kernel is not None
    # mmap_mem() says so of any failure (drivers/char/mem.c).
    assert outcome.kernel.errno == errno.EAGAIN
    assert outcome.mapping is None
    assert listed(guest, low) == before
    assert guest.kernel.direct_pages(low).types == (WB,)


def test_a_fork_whose_reservation_is_refused(guest: Guest) -> None:
    """track_pfn_copy() reserves for the child: fork() fails, and what the parent has stays."""
    if guest.version >= (6, 16):
        pytest.skip("since 6.16 a child shares its parent's reservation, and fork() asks for none")
    if guest.version < (6, 1):
        pytest.skip("5.10 warns when it unmaps the half of a child, as bug fork-oom-leak has it")
    bar, process = guest.mmio(pages=2), guest.process("X")
    mapping = process.mmap(bar, WC).mapping
    assert mapping is not None
    with guest.faults.fail("memtype_reserve", task=process, returns=-errno.EBUSY) as fault:
        with pytest.raises(SyscallRefused):
            process.fork()
        assert fault.counts.failed == 1
    assert listed(guest, bar) == [(bar, WC)]
    assert [each.memtype for each in guest.tracked(bar)] == [WC]
    child = process.fork()
    assert listed(guest, bar) == [(bar, WC)] * 2
    child.exit()


def test_who_does_not_ask_which_type_it_got(guest: Guest) -> None:
    """memtype_reserve() with no place for the type (NULL): the same answers, for RAM too."""
    ram = guest.ram(pages=2)

    def insist(mode: Mode) -> int:
        return guest.kernel.call("memtype_reserve", ram.start, ram.end, mode, 0).errno

    assert (insist(Mode.WP), insist(Mode.WC), insist(Mode.WC)) == (errno.EINVAL, 0, errno.EBUSY)
    assert reserve(guest, ram, Mode.WB) == (errno.EBUSY, Mode.WC)
    assert free(guest, ram) == 0


@pytest.mark.hardware(cmdline="nopat")
def test_without_a_pat_nothing_is_kept(guest: Guest) -> None:
    """Each request is granted as it stands and none is listed; RAM of a process has no type to agree with."""
    bar, ram = guest.mmio(pages=2), guest.ram(pages=1)
    assert reserve(guest, bar, Mode.WC) == (0, Mode.WC)
    assert reserve(guest, bar, Mode.UC) == (0, Mode.UC)
    assert guest.kernel.call("memtype_reserve", bar.start, bar.end, Mode.WB, 0).errno == 0
    assert free(guest, bar) == 0
    assert reserve(guest, ram, Mode.WC) == reserve(guest, ram, Mode.WC) == (0, Mode.WC)
    process = guest.process("X")
    assert process.mmap(ram, WB).granted is WB
    # A mapping in pieces, none of which is all of it.
    assert process.mmap([bar[1], bar[0]], UC_MINUS).granted is UC_MINUS


def test_a_range_without_a_mapping(guest: Guest) -> None:
    """memremap_pages() has no vma for track_pfn_remap() and untrack_pfn(): the range alone counts."""
    if not guest.kernel.has("track_pfn_remap"):
        pytest.skip(
            "since 6.16 memremap_pages() asks nobody: pfnmap_track() took the place of track_pfn_remap()"
        )
    bar = guest.mmio(pages=2)
    # The protection of a write-combined page: slot 1.
    arguments = (0, InMemory(), bar.start // PAGE, 0, bar.size)
    called = guest.kernel.call("track_pfn_remap", *arguments, memory=[0x63 | 1 << 3])
    assert (called.errno, called.memory[0]) == (0, 0x63 | 1 << 3)
    assert listed(guest, bar) == [(bar, WC)]
    # Another asks for UC-, slot 2, and gets what there is.
    called = guest.kernel.call("track_pfn_remap", *arguments, memory=[0x63 | 1 << 4])
    assert (called.errno, called.memory[0]) == (0, 0x63 | 1 << 3)
    for left in (1, 0):
        guest.kernel.call("untrack_pfn", 0, bar.start // PAGE, bar.size, 0)
        assert listed(guest, bar) == [(bar, WC)] * left


@pytest.mark.expect_oops(match="memtype_reserve_io|io_reserve_memtype")
def test_a_reservation_over_several_resources(guest: Guest) -> None:
    """memtype_reserve_io() warns of a range that ends in another resource than it began in, and takes it."""
    bar = guest.mmio(pages=1)
    lines = [line.partition(" : ")[0].strip() for line in guest.shell("cat /proc/iomem").output.splitlines()]
    spans = [tuple(int(each, 16) for each in line.split("-")) for line in lines]
    first, last = min((span for span in spans if span[0] <= bar.start <= span[1]), key=lambda s: s[1] - s[0])
    across = guest.region(last + 1 - PAGE, 2 * PAGE)
    assert first < across.start
    assert reserve(guest, across, Mode.WC, "memtype_reserve_io") == (0, Mode.WC)
    assert listed(guest, across) == [(across, WC)]
    assert [each.title.startswith("WARNING") for each in guest.reports()] == [True]
    guest.kernel.call("memtype_free_io", across.start, across.end)
    assert listed(guest, across) == []
