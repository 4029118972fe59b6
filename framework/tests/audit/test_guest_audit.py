"""The audit of guests that run: healthy ones, and aliases that were made on purpose."""

from __future__ import annotations

from dataclasses import replace

import pytest
from memtype_support.system_ram import ram_pages

from pytest_memtype import Guest, MemType
from pytest_memtype.audit.findings import FindingKind
from pytest_memtype.audit.regions import DIRECT_MAP, VMALLOC
from pytest_memtype.machine.state import GuestState
from pytest_memtype.plugin.fixtures import GuestFactory
from pytest_memtype.x86.effective import EffectiveType, Severity
from pytest_memtype.x86.pat import RESET_PAT

SERIES = ["debian:bullseye", "debian:bookworm", "debian:trixie", "debian:trixie-backports"]
UC_MINUS, WB, WC = MemType.UC_MINUS, MemType.WB, MemType.WC


@pytest.mark.parametrize("series", SERIES)
def test_a_healthy_guest(guest_factory: GuestFactory, series: str) -> None:
    guest = guest_factory(kernel=series)
    process = guest.process("X", uid=1000)
    for result in (guest.audit(), guest.audit(scan=True)):
        assert result.dangling_entries == ()
        assert [str(each) for each in result.findings if each.benign is None] == []
        assert result.figures.pages >= ram_pages(guest)
    owners = {root.process for root in guest.audit().seen.roots if root.process}
    assert owners == {(1, "init"), (process.pid, "X")}


# vmf_insert_pfn() reserves nothing (5.10 to 7.3, mm/memory.c), so that Linux gives the driver what it asks
# for. UC by MTRR and WC on one page are Severity.INFO (x86/effective.py).
def test_an_alias_on_device_memory(guest: Guest) -> None:
    bar = guest.mmio(pages=2)
    process = guest.process("X")
    mapping = process.mmap(bar, UC_MINUS, via="insert_pfn").mapping
    assert mapping is not None
    process.write(mapping, 1)
    guest.driver("drm").ioremap(bar, WC)
    (conflict,) = guest.audit().conflicts
    assert (conflict.start, conflict.pages) == (bar.start + 4096, 1)
    assert conflict.danger is Severity.INFO
    assert set(conflict.effective) == {EffectiveType.UC, EffectiveType.WC}
    user, kernel = conflict.mappings
    assert (user.memtype, user.virtual, user.process) == (
        UC_MINUS,
        mapping.address + 4096,
        (process.pid, "X"),
    )
    assert (kernel.memtype, kernel.region) == (WC, VMALLOC)


# set_memory_wc() changes the direct map and nothing else, so that a user's mapping stays WB (5.10 to 7.3).
def test_an_alias_on_ram(guest: Guest) -> None:
    ram = guest.ram(pages=2)
    mapping = guest.process("X").mmap(ram, WB).mapping
    assert mapping is not None
    guest.driver("agp").set_memory(ram[:1], WC)
    (conflict,) = guest.audit().conflicts
    assert (conflict.start, conflict.pages, conflict.danger) == (ram.start, 1, Severity.FATAL)
    assert [each.memtype for each in conflict.mappings] == [WB, WC]
    assert conflict.mappings[1].region == DIRECT_MAP


def test_ram_that_is_not_write_back(guest: Guest) -> None:
    ram = guest.ram(pages=1)
    guest.driver("agp").set_memory(ram, UC_MINUS)
    found = [each for each in guest.audit().findings if each.kind is FindingKind.RAM_NOT_WB]
    assert [(each.start, each.pages) for each in found] == [(ram.start, 1)]


def test_reservations_and_mappings_are_compared(guest: Guest) -> None:
    bar = guest.mmio(pages=1)
    guest.driver("fb").reserve_wc(bar)
    (found,) = (each for each in guest.audit().findings if each.start == bar.start)
    assert found.kind is FindingKind.UNMAPPED
    # There is no such question without the lists.
    questions = (FindingKind.UNMAPPED, FindingKind.UNTRACKED)
    assert not [each for each in guest.audit(tracked=False).findings if each.kind in questions]


def test_the_guest_goes_on_as_it_was(guest: Guest) -> None:
    guest.audit()
    assert guest.shell("echo on").output == "on\n"
    guest.qmp.execute("stop")
    assert guest.audit().conflicts == ()
    assert guest.machine.state is GuestState.STOPPED
    guest.qmp.execute("cont")
    assert guest.shell("echo on").output == "on\n"


@pytest.mark.layout("wb-device")
def test_linux_list_says_what_no_page_table_does(guest: Guest) -> None:
    """Under another PAT: the slot that Linux chose for WC is WT at reset (Intel SDM, IA32_PAT)."""
    bar = guest.mmio(pages=1)
    guest.driver("fb").ioremap(bar, WC)
    questions = [each.kind for each in guest.audit().findings if each.start == bar.start]
    assert FindingKind.TRACKED_OTHERWISE not in questions
    guest.change_registers(lambda cpu: replace(cpu, pat_value=RESET_PAT))
    found = [each for each in guest.audit().findings if each.kind is FindingKind.TRACKED_OTHERWISE]
    (here,) = [each for each in found if each.start == bar.start]
    assert (here.effective, here.benign) == ((EffectiveType.WT,), None)
    assert "Linux' list: WC" in here.reason
