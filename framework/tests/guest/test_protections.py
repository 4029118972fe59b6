"""Mappings with every protection, PROT_NONE among them, on each series: model, page tables, what is kept."""

from __future__ import annotations

import errno

import pytest

from pytest_memtype import MemType
from pytest_memtype.errors import ProcessFault, UsageError
from pytest_memtype.guest.guest import Guest
from pytest_memtype.guest.outcome import Mapping
from pytest_memtype.guest.page_table import Leaves
from pytest_memtype.guest.process import Process
from pytest_memtype.guest.region import Region
from pytest_memtype.plugin.fixtures import GuestFactory
from pytest_memtype.spec.linux import Linux, Platform
from pytest_memtype.spec.linux_processes import SIGSEGV
from pytest_memtype.spec.linux_versions import Behaviour, Topic, behaviours, parse_version
from pytest_memtype.x86.pte import PageSize

SERIES = ["debian:bullseye", "debian:bookworm", "debian:trixie", "debian:trixie-backports"]
UC, UC_MINUS, WB, WC, WT = MemType.UC, MemType.UC_MINUS, MemType.WB, MemType.WC, MemType.WT
PROTECTIONS = ("", "r", "w", "x", "rw", "rx", "wx", "rwx")
PID = 1
LARGE = 512


@pytest.fixture(params=SERIES)
def guest(request: pytest.FixtureRequest, guest_factory: GuestFactory) -> Guest:
    return guest_factory(kernel=request.param)


def model(guest: Guest, ram: Region) -> Linux:
    frames = range(ram.start >> 12, ram.end >> 12)
    version = parse_version(guest.shell("cat /proc/version").output)
    linux = Linux(
        Platform(version, is_ram=lambda pfn: pfn in frames, is_write_back=lambda pfn: pfn in frames)
    )
    linux.processes.start(PID)
    return linux


def assert_listed(guest: Guest, linux: Linux, region: Region) -> None:
    """Linux has reserved what the model has."""
    listed = [(each.region.start, each.region.pages, each.memtype) for each in guest.memtype_list(region)]
    assert sorted(listed) == sorted(
        (entry.first << 12, entry.end - entry.first, entry.memtype)
        for entry in linux.memtype_list(region.start >> 12, region.pages)
    )


def hidden(process: Process, mapping: Mapping, guest: Guest) -> list[tuple[int, bool]]:
    """Runs of pages, and whether the CPU doesn't see them; neighbours differ in it."""
    runs: list[tuple[int, bool]] = []
    for each in process.leaves(mapping, guest.registers()[0]):
        if runs and runs[-1][1] is each.hidden:
            runs[-1] = (runs[-1][0] + each.pages, each.hidden)
        else:
            runs.append((each.pages, each.hidden))
    return runs


def signal_of(process: Process, mapping: Mapping, page: int, *, write: bool) -> int:
    try:
        if write:
            process.write(mapping, page)
        else:
            process.read(mapping, page)
    except ProcessFault as fault:
        return fault.signal
    return 0


@pytest.mark.parametrize(
    ("via", "memtype"),
    [("driver", WC), ("driver", WT), ("iomap_memory", UC_MINUS), ("insert_page", WC), ("dma_coherent", WB)],
)
def test_each_protection_has_the_same_type(guest: Guest, via: str, memtype: MemType) -> None:
    """With PROT_NONE, too, the entry holds page and type; only the CPU has neither."""
    ram, bar = guest.ram(pages=4), guest.mmio(pages=4)
    memory = ram if via in ("insert_page", "dma_coherent") else bar
    first = memory.start >> 12
    for private in (False, True):
        for protection in PROTECTIONS:
            linux = model(guest, ram)
            process = guest.process(f"{private}-{protection}")
            outcome = process.mmap(memory, memtype, via=via, private=private, protection=protection)
            expected = linux.mmap(
                PID, 0, first, memory.pages, memtype, via=via, private=private, protection=protection
            )
            assert (outcome.kernel.errno, outcome.granted_pages) == (expected.errno, expected.granted)
            assert outcome.granted is memtype
            assert (outcome.effective is None) is (protection == "")
            assert outcome.mapping is not None
            assert hidden(process, outcome.mapping, guest) == [(4, protection == "")]
            for page in range(4):
                assert process.physical(outcome.mapping, page) == memory[page].start
            assert_listed(guest, linux, bar)
            owners = [each.owner for each in guest.tracked(memory)]
            assert (process.name in owners) is outcome.verdict.accepted
            assert (guest.effective(memory[0]) == (None,)) is (protection == "")
            for write in (False, True):
                if not (private and write):
                    expected_signal = linux.processes.access(PID, 1, write=write)
                    assert signal_of(process, outcome.mapping, 1, write=write) == expected_signal
            process.exit()
            assert guest.memtype_list(bar) == ()
            assert guest.tracked(memory) == ()


@pytest.mark.parametrize("via", ["driver", "insert_pfn", "insert_mixed"])
def test_mprotect_to_none_and_back(guest: Guest, via: str) -> None:
    """The entries keep type and page; nothing is freed, and a fork copies what is hidden."""
    bar, ram = guest.mmio(pages=6), guest.ram(pages=1)
    linux = model(guest, ram)
    first = bar.start >> 12
    holder = guest.driver("holder").ioremap(bar, WC)
    linux.ioremap(0, first, bar.pages, WC)
    process = guest.process("X")
    mapping = process.mmap(bar, WC, via=via).mapping
    linux.mmap(PID, 0, first, bar.pages, WC, via=via)
    assert mapping is not None
    for page in range(bar.pages):
        process.write(mapping, page)
        linux.processes.access(PID, page, write=True)
    for protection in PROTECTIONS:
        assert process.mprotect(mapping, "", offset=2, pages=3) == 0
        assert linux.processes.mprotect(PID, 2, 5, "") == 0
        assert hidden(process, mapping, guest) == [(2, False), (3, True), (1, False)]
        found = process.page_table(mapping, guest.registers()[0])
        assert found == linux.user_page_table(PID, 0, bar.pages) == (WC,) * bar.pages
        assert process.physical(mapping, 3) == bar[3].start
        assert signal_of(process, mapping, 3, write=False) == SIGSEGV
        assert_listed(guest, linux, bar)
        child = process.fork(f"child-{protection}")
        assert linux.processes.fork(PID, PID + 1) == 0
        assert hidden(child, mapping, guest) == [(2, False), (3, True), (1, False)]
        assert child.physical(mapping, 4) == bar[4].start
        assert_listed(guest, linux, bar)
        child.exit()
        linux.processes.exit(PID + 1)
        assert process.mprotect(mapping, protection, offset=2, pages=3) == 0
        assert linux.processes.mprotect(PID, 2, 5, protection) == 0
        assert process.page_table(mapping, guest.registers()[0]) == (WC,) * bar.pages
        assert hidden(process, mapping, guest)[0] == (6 if protection else 2, False)
        for write in (False, True):
            expected = linux.processes.access(PID, 4, write=write)
            assert signal_of(process, mapping, 4, write=write) == expected
        assert_listed(guest, linux, bar)
    process.exit()
    linux.processes.exit(PID)
    assert_listed(guest, linux, bar)
    assert [each.owner for each in guest.tracked(bar)] == ["holder"]
    assert holder.mapping is not None


def test_a_large_page_with_prot_none(guest: Guest) -> None:
    bar = guest.mmio(pages=LARGE, align=LARGE)
    assert guest.driver("holder").ioremap(bar, WC).accepted
    process = guest.process("X")
    mapping = process.mmap(bar, WC, via="insert_pfn_pmd").mapping
    assert mapping is not None
    process.read(mapping, 3)
    version = parse_version(guest.shell("cat /proc/version").output)
    large = behaviours(version)[Topic.HUGE_PFNMAP] is Behaviour.LARGE
    assert process.mprotect(mapping, "") == 0
    leaves = process.leaves(mapping, guest.registers()[0])
    if large:
        assert leaves == (Leaves(PageSize.SIZE_2M, LARGE, WC, hidden=True),)
    else:
        assert leaves[1] == Leaves(PageSize.SIZE_4K, 1, WC, hidden=True)
    assert process.physical(mapping, 3) == bar[3].start
    assert process.mprotect(mapping, "r") == 0
    (found,) = (each for each in process.leaves(mapping, guest.registers()[0]) if each.memtype)
    assert found == Leaves(PageSize.SIZE_2M if large else PageSize.SIZE_4K, LARGE if large else 1, WC)


def test_nothing_in_sysfs_can_be_executed(guest: Guest) -> None:
    bar, ram = guest.mmio(pages=1), guest.ram(pages=1)
    linux = model(guest, ram)
    process = guest.process("X")
    refused = process.mmap(bar, WC, via="sysfs", protection="rx")
    expected = linux.mmap(PID, 0, bar.start >> 12, 1, WC, via="sysfs", protection="rx")
    assert refused.kernel.errno == expected.errno == errno.EPERM
    mapping = process.mmap(bar, WC, via="sysfs", protection="").mapping
    linux.mmap(PID, 0, bar.start >> 12, 1, WC, via="sysfs", protection="")
    assert mapping is not None
    assert hidden(process, mapping, guest) == [(1, True)]
    assert process.mprotect(mapping, "x") == linux.processes.mprotect(PID, 0, 1, "x") == errno.EACCES
    assert process.mprotect(mapping, "rw") == linux.processes.mprotect(PID, 0, 1, "rw") == 0
    assert hidden(process, mapping, guest) == [(1, False)]
    with pytest.raises(UsageError, match="'wr' is not known"):
        process.mprotect(mapping, "wr")


def test_what_a_device_node_maps_with_prot_none_is_seen(guest: Guest) -> None:
    """The address in the entry is inverted, and the mapping is counted all the same."""
    bar = guest.mmio(pages=2)
    process = guest.process("X")
    outcome = process.mmap(bar, UC_MINUS, via="/dev/mem", offset=bar.start, protection="")
    assert (outcome.region, outcome.granted) == (bar, UC_MINUS)
    assert outcome.accepted
    assert [each.owner for each in guest.tracked(bar)] == ["X"]
    process.exit()
    assert guest.tracked(bar) == ()
