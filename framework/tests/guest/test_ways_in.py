"""Further ways in which drivers get memory of a type, on each series: model and page tables."""

from __future__ import annotations

import errno

import pytest

from pytest_memtype import Hardware, MemType
from pytest_memtype.errors import AgentError, ProcessFault, SyscallRefused, UsageError
from pytest_memtype.guest.guest import Guest
from pytest_memtype.guest.outcome import Mapping
from pytest_memtype.guest.process import Process
from pytest_memtype.guest.region import Region, together
from pytest_memtype.plugin.fixtures import GuestFactory
from pytest_memtype.spec.linux import Linux, Platform
from pytest_memtype.spec.linux_processes import LARGE, LARGER, SIGBUS
from pytest_memtype.spec.linux_versions import Behaviour, Topic, behaviours, parse_version
from pytest_memtype.x86.pte import PageSize

SERIES = ["debian:bullseye", "debian:bookworm", "debian:trixie", "debian:trixie-backports"]
UC, UC_MINUS, WB, WC = MemType.UC, MemType.UC_MINUS, MemType.WB, MemType.WC
WP, WT = MemType.WP, MemType.WT
PID = 1


@pytest.fixture(params=SERIES)
def guest(request: pytest.FixtureRequest, guest_factory: GuestFactory) -> Guest:
    return guest_factory(kernel=request.param)


def model(guest: Guest, ram: Region | None = None, *, high: bool = False) -> Linux:
    """The guest's kernel, of which only this RAM matters. The MTRRs make the BAR UC, and a high one WB."""
    frames = range(0) if ram is None else range(ram.start >> 12, ram.end >> 12)
    version = parse_version(guest.shell("cat /proc/version").output)
    linux = Linux(
        Platform(version, is_ram=lambda pfn: pfn in frames, is_write_back=lambda pfn: high or pfn in frames)
    )
    linux.processes.start(PID)
    return linux


def large(linux: Linux) -> bool:
    """Does this version insert large pages?"""
    return behaviours(linux.platform.version)[Topic.HUGE_PFNMAP] is Behaviour.LARGE


def first_frame(region: Region) -> int:
    return region.start >> 12


def assert_listed(guest: Guest, linux: Linux, region: Region) -> None:
    """Linux has reserved what the model has."""
    listed = {(each.region.start, each.region.pages, each.memtype) for each in guest.memtype_list(region)}
    assert listed == {
        (entry.first << 12, entry.end - entry.first, entry.memtype)
        for entry in linux.memtype_list(first_frame(region), region.pages)
    }


def touched(process: Process, mapping: Mapping, guest: Guest) -> tuple[MemType | None, ...]:
    process.read(mapping, 0)
    return process.page_table(mapping, guest.registers()[0])


def test_a_large_page_that_is_inserted(guest: Guest) -> None:
    """An alien reservation decides: vmf_insert_pfn_pmd() looks the type up, as vmf_insert_pfn() does."""
    bar = guest.mmio(pages=2 * LARGE, align=LARGE)
    for memtype in MemType:
        linux = model(guest)
        holder = guest.driver("holder").ioremap(bar, memtype)
        assert linux.ioremap(0, first_frame(bar), bar.pages, memtype).errno == holder.kernel.errno
        process = guest.process(f"X {memtype}")
        outcome = process.mmap(bar, memtype, via="insert_pfn_pmd")
        assert linux.mmap(PID, 0, first_frame(bar), bar.pages, memtype, via="insert_pfn_pmd").errno == 0
        assert set(outcome.granted_pages) == {None}
        assert outcome.mapping is not None
        assert linux.processes.access(PID, 0, write=False) == 0
        assert touched(process, outcome.mapping, guest) == linux.user_page_table(PID, 0, bar.pages)
        assert process.physical(outcome.mapping, 0) == bar.start
        # WC in the process, and what ioremap_prot() makes of WP: UC. Linux says nothing.
        assert bool(guest.audit().conflicts) is (memtype is WP and large(linux))
        if holder.mapping is not None:
            guest.driver("holder").release(holder.mapping)
        process.exit()
        assert [each for each in guest.tracked(bar) if not each.observed] == []


@pytest.mark.parametrize("spec", SERIES)
def test_a_page_of_1_gib_that_is_inserted(guest_factory: GuestFactory, spec: str) -> None:
    """The PAT bit of such an entry is bit 12, which vmf_insert_pfn_pud() sets no more than its sister."""
    guest = guest_factory(kernel=spec, hardware=Hardware(devices=("pci-testdev,membar=4G",)))
    bar = guest.pci("1b36:0005").bars[-1].region[:LARGER]
    # Those whose entries have a PAT bit, and one that has none: a model of all pages takes its time.
    for memtype in (WT, WP, WC):
        linux = model(guest, high=True)
        holder = guest.driver("holder").ioremap(bar, memtype)
        assert linux.ioremap(0, first_frame(bar), bar.pages, memtype).errno == holder.kernel.errno
        process = guest.process(f"X {memtype}")
        outcome = process.mmap(bar, memtype, via="insert_pfn_pud")
        assert linux.mmap(PID, 0, first_frame(bar), bar.pages, memtype, via="insert_pfn_pud").errno == 0
        assert outcome.mapping is not None
        assert linux.processes.access(PID, 0, write=False) == 0
        assert touched(process, outcome.mapping, guest) == linux.user_page_table(PID, 0, bar.pages)
        assert process.physical(outcome.mapping, LARGER - 1) == (
            bar[LARGER - 1].start if large(linux) else None
        )
        sizes = [
            each.page_size
            for each in process.leaves(outcome.mapping, guest.registers()[0])
            if each.memtype is not None
        ]
        assert sizes == [PageSize.SIZE_1G if large(linux) else PageSize.SIZE_4K]
        if holder.mapping is not None:
            guest.driver("holder").release(holder.mapping)
        process.exit()
        assert [each for each in guest.tracked(bar) if not each.observed] == []


@pytest.mark.parametrize(("first", "size"), [(1, PageSize.SIZE_4K), (LARGE, PageSize.SIZE_2M)])
def test_where_1_gib_does_not_fit_less_is_inserted(
    guest_factory: GuestFactory, first: int, size: PageSize
) -> None:
    hardware = Hardware(devices=("pci-testdev,membar=4G",))
    guest = guest_factory(kernel="debian:trixie", hardware=hardware)
    bar = guest.pci("1b36:0005").bars[-1].region[first : first + LARGER]
    process = guest.process("X")
    mapping = process.mmap(bar, WC, via="insert_pfn_pud").mapping
    assert mapping is not None
    process.read(mapping, 0)
    found = [each for each in process.leaves(mapping, guest.registers()[0]) if each.memtype is not None]
    assert [(each.page_size, each.pages * 4096, each.memtype) for each in found] == [(size, size, UC_MINUS)]


def test_pages_of_an_unaligned_region_are_small(guest: Guest) -> None:
    bar = guest.mmio(pages=2 * LARGE, align=LARGE)[1:]
    for memtype in (WB, WC, UC_MINUS):
        linux = model(guest)
        process = guest.process(f"X {memtype}")
        outcome = process.mmap(bar, memtype, via="insert_pfn_pmd")
        linux.mmap(PID, 0, first_frame(bar), bar.pages, memtype, via="insert_pfn_pmd")
        assert outcome.mapping is not None
        linux.processes.access(PID, 0, write=False)
        found = touched(process, outcome.mapping, guest)
        assert found == linux.user_page_table(PID, 0, bar.pages)
        assert found[1] is None
        process.exit()


@pytest.mark.parametrize("memtype", [UC_MINUS, WB])
def test_struct_pages_and_a_direct_map(guest: Guest, memtype: MemType) -> None:
    """WB over UC MTRRs becomes UC-; who has reserved another type before decides."""
    bar = guest.mmio(pages=LARGE, align=LARGE)
    for before in (None, WC, UC_MINUS):
        linux = model(guest)
        holder = None
        if before is not None:
            holder = guest.driver("holder").ioremap(bar, before).mapping
            linux.ioremap(0, first_frame(bar), bar.pages, before)
        outcome = guest.driver("p2p").memremap_pages(bar, memtype)
        expected = linux.memremap_pages(1, first_frame(bar), bar.pages, memtype)
        assert (outcome.kernel.errno, outcome.granted_pages) == (expected.errno, expected.granted)
        assert outcome.verdict.accepted is (before in (None, memtype))
        assert_listed(guest, linux, bar)
        if outcome.mapping is not None:
            assert {each.page_size for each in outcome.leaves} == {PageSize.SIZE_2M}
            guest.driver("p2p").release(outcome.mapping)
        if holder is not None:
            guest.driver("holder").release(holder)
        assert guest.memtype_list(bar) == ()
        assert guest.tracked(bar) == ()


@pytest.mark.expect_oops("phys_pmd_init|prot_sethuge|set_p[mu]d")
@pytest.mark.parametrize("kernel", [each for each in SERIES if each != "debian:bullseye"])
def test_a_direct_map_whose_type_has_no_large_entry(guest_factory: GuestFactory, kernel: str) -> None:
    """Linux warns of the PAT bit of a small entry, and uses it all the same: prot_sethuge(), from 5.18 on."""
    guest: Guest = guest_factory(kernel=kernel)
    bar = guest.mmio(pages=LARGE, align=LARGE)
    linux = model(guest)
    holder = guest.driver("holder").ioremap(bar, WT)
    linux.ioremap(0, first_frame(bar), bar.pages, WT)
    outcome = guest.driver("p2p").memremap_pages(bar, UC_MINUS)
    assert outcome.granted_pages == linux.memremap_pages(1, first_frame(bar), bar.pages, UC_MINUS).granted
    assert outcome.granted is UC
    assert holder.mapping is not None
    guest.driver("holder").release(holder.mapping)


@pytest.mark.parametrize("kept", [WB, WC])
def test_ram_that_is_mapped_once_more(guest: Guest, kept: MemType) -> None:
    """vmap() takes the protection as it is: Linux neither looks the type up nor tracks it."""
    ram, bar = guest.ram(pages=3), guest.mmio(pages=1)
    linux = model(guest, ram)
    driver = guest.driver("ttm")
    held = driver.set_memory(ram, kept).mapping
    linux.set_memory(0, first_frame(ram), ram.pages, kept)
    assert held is not None
    for memtype in MemType:
        outcome = driver.vmap(ram, memtype)
        expected = linux.vmap(1, first_frame(ram), ram.pages, memtype)
        assert (outcome.kernel.errno, outcome.granted_pages) == (expected.errno, expected.granted)
        assert outcome.granted is memtype
        assert outcome.verdict.rule == (None if memtype is WB else "ram-not-wb")
        assert outcome.mapping is not None
        assert driver.physical(outcome.mapping) == ram.start
        assert driver.page_table(held, guest.registers()[0]) == linux.kernel_page_table(0)
        assert guest.memtype_list(ram) == ()
        assert bool(guest.audit().conflicts) is (memtype is not kept)
        records = len(guest.tracked(ram))
        driver.release(outcome.mapping)
        linux.release(1)
        assert records - len(guest.tracked(ram)) == outcome.verdict.accepted
    driver.release(held)
    assert guest.tracked(ram) == ()
    with pytest.raises(AgentError, match="vmap"):
        driver.vmap(bar, WC)


def test_ram_that_is_freed_as_it_is(guest: Guest) -> None:
    # In this order: who gets pages that were freed with another type has them with that type.
    for memtype in (None, WB, WC):
        ram = guest.ram(pages=2)
        linux = model(guest, ram)
        driver = guest.driver("i915")
        if memtype is not None:
            assert driver.set_memory(ram, memtype).kernel.accepted
            linux.set_memory(0, first_frame(ram), ram.pages, memtype)
        outcome = driver.free(ram)
        expected = linux.free(first_frame(ram), ram.pages)
        assert (outcome.kernel.errno, outcome.granted_pages) == (expected.errno, expected.granted)
        assert outcome.accepted is (memtype in (None, WB))
        assert outcome.verdict.rule == (None if outcome.accepted else "ram-not-wb")
        with pytest.raises(AgentError, match="free_ram"):
            driver.free(ram)


def test_ram_that_is_freed_in_enforce_mode_or_mapped(guest: Guest) -> None:
    ram = guest.ram(pages=1)
    driver = guest.driver("i915")
    mapping = driver.set_memory(ram, UC_MINUS).mapping
    assert mapping is not None
    guest.policy.enforce = True
    assert not driver.free(ram).kernel.asked
    driver.release(mapping)
    mapped = guest.process("X").mmap(ram, WB).mapping
    assert mapped is not None
    with pytest.raises(AgentError, match="busy"):
        driver.free(ram)


def test_write_back_of_what_nobody_changed(guest: Guest) -> None:
    """set_memory_wb() frees a reservation that there isn't, which no kernel minds."""
    page = guest.region(0, 0x1000)
    outcome = guest.driver("nvidia").set_memory(page, WB)
    assert outcome.kernel.accepted
    assert outcome.granted is WB


@pytest.mark.parametrize("reserved", [None, WC])
def test_several_pieces(guest: Guest, reserved: MemType | None) -> None:
    """None covers its VMA, so that nothing is reserved: each has the type that is looked up."""
    bar = guest.mmio(pages=12)
    pieces = [bar[8:12], bar[0:2]]
    frames = [(first_frame(each), each.pages) for each in pieces]
    if reserved is not None:
        guest.driver("holder").ioremap(bar[0:4], reserved)
    for memtype in MemType:
        linux = model(guest)
        if reserved is not None:
            linux.ioremap(0, first_frame(bar), 4, reserved)
        process = guest.process(f"gdr {memtype}")
        outcome = process.mmap(pieces, memtype, via="driver")
        expected = linux.mmap(PID, 0, frames[0][0], 6, memtype, pieces=frames)
        assert (outcome.kernel.errno, outcome.granted_pages) == (expected.errno, expected.granted)
        assert outcome.verdict.accepted is (reserved in (None, memtype))
        assert len(guest.memtype_list(bar)) == (reserved is not None)
        assert outcome.mapping is not None
        physical = [process.physical(outcome.mapping, page) for page in (0, 3, 4, 5)]
        assert physical == [bar[page].start for page in (8, 11, 0, 1)]
        mine = [each for each in guest.tracked(bar) if each.owner == process.name]
        where = {each.region.start: each.address - outcome.mapping.address for each in mine}
        assert where == ({bar[8].start: 0, bar.start: 0x4000} if outcome.verdict.accepted else {})
        process.exit()
        assert [each for each in guest.tracked(bar) if each.owner == process.name] == []


def test_records_of_pieces_are_those_of_each_piece(guest: Guest) -> None:
    """In any order, and without those of the memory in between."""
    bar = guest.mmio(pages=12)
    drm = guest.driver("drm")
    for part in (bar[8:10], bar[4], bar[0]):
        drm.ioremap(part, WC)
    for pieces in ([bar[8:12], bar[0:2]], [bar[0:2], bar[8:12]]):
        found = guest.tracked(together(pieces))
        assert [each.region for each in found] == [bar[0], bar[8:10]]
    # A record that meets two pieces is one record.
    assert len(guest.tracked(together([bar[9], bar[8]]))) == 1
    process = guest.process("X")
    outcome = process.mmap([bar[8:12], bar[0:2]], WC)
    assert guest.tracked(outcome.region) == guest.tracked(together([bar[0:2], bar[8:12]]))
    with guest.batch() as batch:
        again = batch.add(guest.tracked, outcome.region)
    assert again.result() == guest.tracked(outcome.region)


def test_pieces_are_followed(guest: Guest) -> None:
    bar = guest.mmio(pages=12)
    process = guest.process("X")
    mapping = process.mmap([bar[8:12], bar[0:2]], UC_MINUS, via="driver").mapping
    assert mapping is not None

    def mine() -> set[tuple[str, int, int]]:
        found = [each for each in guest.tracked(bar) if not each.observed]
        return {(each.owner, each.region.start, each.region.pages) for each in found}

    child = process.fork("Y")
    # The last page of the first piece, and the first of the second.
    assert process.munmap(mapping, offset=3, pages=2).accepted
    mine_now = {("X", bar[8].start, 3), ("X", bar[1].start, 1)}
    assert mine() == {*mine_now, ("Y", bar[8].start, 4), ("Y", bar[0].start, 2)}
    moved = process.mremap(mapping, offset=5, move=True)
    assert moved.region == bar[1:2]
    assert mine() >= mine_now
    process.kill()
    child.exit()
    assert mine() == set()


@pytest.mark.parametrize("via", ["insert_page", "insert_pages", "remap_vmalloc"])
def test_struct_pages_have_the_type_that_is_asked_for(guest: Guest, via: str) -> None:
    """vm_insert_page() takes vm_page_prot as it is: Linux neither looks the type up nor tracks it."""
    for kept in (WB, WC):
        ram = guest.ram(pages=4)
        linux = model(guest, ram)
        assert guest.driver("i915").set_memory(ram, kept).kernel.accepted
        linux.set_memory(0, first_frame(ram), ram.pages, kept)
        for number, memtype in enumerate(MemType):
            process = guest.process(f"{kept} {memtype}")
            outcome = process.mmap(ram, memtype, via=via)
            vpage = number * LARGE
            expected = linux.mmap(PID, vpage, first_frame(ram), ram.pages, memtype, via=via)
            assert (outcome.kernel.errno, outcome.granted_pages) == (expected.errno, expected.granted)
            assert outcome.granted is memtype
            assert outcome.verdict.rule == (None if memtype is WB else "ram-not-wb")
            assert outcome.mapping is not None
            assert process.physical(outcome.mapping, 3) == ram[3].start
            assert [each.owner for each in guest.tracked(ram) if each.kind == "user"] == (
                [process.name] if memtype is WB else []
            )
            assert guest.memtype_list(ram) == ()
            assert bool(guest.audit().conflicts) is (memtype is not kept)
            child = process.fork(f"{kept} {memtype} child")
            linux.processes.fork(PID, PID + 1)
            assert child.page_table(outcome.mapping, guest.registers()[0]) == linux.user_page_table(
                PID + 1, vpage, ram.pages
            )
            linux.processes.exit(PID + 1)
            child.write(outcome.mapping, 2, value=number + 1)
            assert process.read(outcome.mapping, 2) == number + 1
            child.exit()
            process.exit()
            assert [each for each in guest.tracked(ram) if each.kind == "user"] == []


@pytest.mark.expect_alias
@pytest.mark.parametrize("via", ["insert_page", "insert_pages", "remap_vmalloc"])
def test_a_struct_page_is_copied_with_the_type_of_its_mapping(guest: Guest, via: str) -> None:
    ram = guest.ram(pages=2)
    linux = model(guest, ram)
    process = guest.process("X")
    mapping = process.mmap(ram, WC, via=via, private=True).mapping
    linux.mmap(PID, 0, first_frame(ram), ram.pages, WC, via=via, private=True)
    assert mapping is not None
    process.write(mapping, 1)
    assert linux.processes.access(PID, 1, write=True) == 0
    assert process.page_table(mapping, guest.registers()[0]) == linux.user_page_table(PID, 0, ram.pages)
    assert process.physical(mapping, 0) == ram.start
    assert process.physical(mapping, 1) != ram[1].start


@pytest.mark.parametrize("via", ["insert_page", "insert_pages", "remap_vmalloc"])
def test_struct_pages_that_a_driver_takes_away_again(guest: Guest, via: str) -> None:
    """They would be freed under the process: from 5.18 on Linux doesn't wait for its references."""
    bar = guest.mmio(pages=LARGE, align=LARGE)
    made = guest.driver("p2p").memremap_pages(bar, WB).mapping
    assert made is not None
    refused = guest.process("X").mmap(bar, WB, via=via)
    assert refused.kernel.errno == errno.EINVAL
    guest.driver("p2p").release(made)
    assert (guest.memtype_list(bar), guest.tracked(bar)) == ((), ())


@pytest.mark.parametrize(
    "via", ["insert_pfn", "insert_mixed", "iomap_memory", "dma_coherent", "remap_vmalloc"]
)
def test_a_part_by_a_way_that_maps_all(guest: Guest, via: str) -> None:
    """More would be mapped than is counted; the module says so, whoever asks it."""
    bar = guest.mmio(pages=2)
    guest.process("X")
    asked = {"start": bar.start, "pages": 2, "memtype": int(WC), "part_first": 0, "part_pages": 1}
    with pytest.raises(AgentError, match="Invalid argument"):
        guest._agent.call("mmap", process="X", via=via, **asked)
    assert (guest.memtype_list(bar), guest.tracked(bar)) == ((), ())


@pytest.mark.parametrize("via", ["insert_page", "insert_pages", "remap_vmalloc"])
def test_struct_pages_that_there_are_not(guest: Guest, via: str) -> None:
    """A BAR has none, and a page of RAM that a process has mapped is taken away from it like any other."""
    bar, ram = guest.mmio(pages=2), guest.ram(pages=2)
    linux = model(guest, ram)
    process = guest.process("X")
    refused = process.mmap(bar, WC, via=via)
    assert refused.kernel.errno == linux.mmap(PID, 0, first_frame(bar), 2, WC, via=via).errno == errno.EINVAL
    assert guest.tracked(bar) == ()
    mapping = process.mmap(ram, WB, via=via).mapping
    linux.mmap(PID, 0, first_frame(ram), 2, WB, via=via)
    assert mapping is not None
    with pytest.raises(AgentError, match="busy"):
        guest.driver("i915").free(ram)
    with pytest.raises(SyscallRefused):
        process.mremap(mapping, new_pages=3)
    assert linux.processes.mremap(PID, 0, 2, 3, None) == errno.EFAULT
    guest.driver("vfio").zap(ram[1])
    linux.processes.zap("driver", first_frame(ram) + 1, first_frame(ram) + 2)
    assert process.page_table(mapping, guest.registers()[0]) == linux.user_page_table(PID, 0, 2)
    with pytest.raises(ProcessFault):
        process.read(mapping, 1)
    assert linux.processes.access(PID, 1, write=False) == SIGBUS
    process.exit()
    assert guest.driver("i915").free(ram).accepted


@pytest.mark.parametrize("reserved", [None, WC])
def test_all_of_a_device(guest: Guest, reserved: MemType | None) -> None:
    """vm_iomap_memory() reserves as remap_pfn_range() does, which it calls for all of the VMA."""
    bar = guest.mmio(pages=4)
    linux = model(guest)
    if reserved is not None:
        guest.driver("holder").ioremap(bar, reserved)
        linux.ioremap(0, first_frame(bar), bar.pages, reserved)
    for memtype in MemType:
        process = guest.process(f"X {memtype}")
        linux.processes.start(PID + 1)
        outcome = process.mmap(bar, memtype, via="iomap_memory")
        expected = linux.mmap(PID + 1, 0, first_frame(bar), bar.pages, memtype, via="iomap_memory")
        assert (outcome.kernel.errno, outcome.granted_pages) == (expected.errno, expected.granted)
        assert outcome.verdict.accepted is (reserved in (None, memtype))
        assert_listed(guest, linux, bar)
        if outcome.mapping is not None:
            assert process.physical(outcome.mapping, 3) == bar[3].start
        process.exit()
        linux.processes.exit(PID + 1)
        assert_listed(guest, linux, bar)


@pytest.mark.parametrize("private", [False, True])
def test_a_page_of_any_memory_that_is_inserted(guest: Guest, private: bool) -> None:
    """vmf_insert_mixed(): of RAM, too, the type is looked up; a copy has the one that is asked for."""
    bar, ram = guest.mmio(pages=4), guest.ram(pages=4)
    linux = model(guest, ram)
    guest.driver("holder").ioremap(bar[0:2], WC)
    linux.ioremap(0, first_frame(bar), 2, WC)
    guest.driver("i915").set_memory(ram[0:2], WC)
    linux.set_memory(1, first_frame(ram), 2, WC)
    for memory in (bar, ram):
        for number, memtype in enumerate((WB, UC_MINUS, WC)):
            process = guest.process(f"{memory.start:#x} {memtype}")
            outcome = process.mmap(memory, memtype, via="insert_mixed", private=private)
            vpage, pfn = number * LARGE, first_frame(memory)
            linux.processes.start(PID + 1)
            assert (
                linux.mmap(PID + 1, vpage, pfn, 4, memtype, via="insert_mixed", private=private).granted
                == (None,) * 4
            )
            assert outcome.granted_pages == (None,) * 4
            assert outcome.mapping is not None
            for page in (0, 3):
                process.write(outcome.mapping, page)
                assert linux.processes.access(PID + 1, vpage + page, write=True) == 0
            process.read(outcome.mapping, 2)
            assert linux.processes.access(PID + 1, vpage + 2, write=False) == 0
            found = process.page_table(outcome.mapping, guest.registers()[0])
            assert found == linux.user_page_table(PID + 1, vpage, 4)
            assert (process.physical(outcome.mapping, 0) == memory.start) is not private
            assert_listed(guest, linux, bar)
            assert (
                process.name in [each.owner for each in guest.tracked(memory)]
            ) is outcome.verdict.accepted
            process.exit()
            linux.processes.exit(PID + 1)
            assert process.name not in [each.owner for each in guest.tracked(memory)]


@pytest.mark.parametrize("kept", [WB, WC, UC_MINUS])
def test_memory_for_dma(guest: Guest, kept: MemType) -> None:
    """On x86 dma_mmap_wc() asks for WB as dma_mmap_coherent() does; of RAM the direct map's type decides."""
    ram, bar = guest.ram(pages=4), guest.mmio(pages=4)
    linux = model(guest, ram)
    guest.driver("i915").set_memory(ram, kept)
    linux.set_memory(0, first_frame(ram), ram.pages, kept)
    for via, memtype in (("dma_coherent", WB), ("dma_wc", WC)):
        for memory in (ram, bar):
            process = guest.process(f"{via} {memory.start:#x}")
            linux.processes.start(PID + 1)
            outcome = process.mmap(memory, memtype, via=via)
            expected = linux.mmap(PID + 1, 0, first_frame(memory), memory.pages, memtype, via=via)
            assert (outcome.kernel.errno, outcome.granted_pages) == (expected.errno, expected.granted)
            assert outcome.granted is (kept if memory is ram else UC_MINUS)
            assert outcome.verdict.rule == ("ram-not-wb" if (memory, memtype) == (ram, WC) else None)
            assert_listed(guest, linux, bar)
            assert outcome.mapping is not None
            assert process.physical(outcome.mapping, 3) == memory[3].start
            process.exit()
            linux.processes.exit(PID + 1)
            assert_listed(guest, linux, bar)
    with pytest.raises(UsageError, match="can't ask for WC"):
        guest.process("X").mmap(ram, WC, via="dma_coherent")


def test_what_is_no_pieces(guest: Guest) -> None:
    bar = guest.mmio(pages=20, align=1)
    process = guest.process("X")
    for pieces in ([], [bar[0:0], bar[1]], [bar[n] for n in range(17)]):
        with pytest.raises(UsageError, match="1 to 16 pieces"):
            process.mmap(pieces, WC)
    with pytest.raises(UsageError, match="via 'driver' and in full only"):
        process.mmap([bar[0], bar[2]], WC, via="sysfs")
    assert process.mmap([bar[0:2]], WC).region == bar[0:2]
    with pytest.raises(UsageError, match="whole pieces of 2 MiB"):
        guest.driver("p2p").memremap_pages(bar, WB)


def test_what_takes_one_range_takes_no_pieces(guest: Guest) -> None:
    """It took them for one range from the first piece on, as long as all."""
    bar, drm = guest.mmio(pages=4, align=1), guest.driver("drm")
    pieces = together([bar[2], bar[0]])
    for function in (drm.ioremap, drm.memremap, drm.set_memory, drm.vmap, drm.reserve_wc, drm.phys_wc_add):
        arguments = () if function in (drm.reserve_wc, drm.phys_wc_add) else (WB,)
        with pytest.raises(UsageError, match=f"takes one range of memory, not 2: .*{bar[2].start:#x}"):
            function(pieces, *arguments)
    for question in (guest.lookup, drm.zap, guest.kernel.direct_pages):
        with pytest.raises(UsageError, match="takes one range of memory"):
            question(pieces)
    with pytest.raises(UsageError, match="verify takes one range"):
        guest.verify(pieces, WB)
    assert guest.tracked(bar) == ()
