"""The cases of the 2005 thread one by one: what it wanted, and what today's kernels do.

"solving page table access attribute aliasing", Eric Biederman to Andi Kleen, LKML, 30 August 2005
(m1br3gq71m.fsf_-_@ebiederm.dsl.xmission.com), and the answers. Linux took another road in 2.6.26: where the
thread refuses, the kernel substitutes the type that is there, and RAM may have others than write-back.
"""

from __future__ import annotations

import errno

import pytest

from pytest_memtype import EffectiveType, Guest, MemType

UC, UC_MINUS, WC, WT, WB = MemType.UC, MemType.UC_MINUS, MemType.WC, MemType.WT, MemType.WB

pytestmark = [pytest.mark.layout("firmware"), pytest.mark.shared_guest, pytest.mark.needs_module]


@pytest.mark.parametrize("memtype", [UC_MINUS, WC], ids=lambda each: each.name)
def test_ram_with_a_struct_page_is_write_back_or_fails(guest: Guest, memtype: MemType) -> None:
    """Linux gives the process what the RAM has, which comes to the same."""
    ram = guest.ram(pages=2)

    outcome = guest.process("X").mmap(ram, memtype)

    assert outcome.verdict.rule == "ram-not-wb"
    assert outcome.kernel.accepted
    assert outcome.granted is WB


def test_ram_that_a_driver_changed(guest: Guest) -> None:
    """Linux lets the owner of RAM change its type; the thread knows no such owner."""
    ram = guest.ram(pages=2)

    outcome = guest.driver("agp").set_memory(ram, WC)

    assert outcome.verdict.rule == "ram-not-wb"
    assert outcome.kernel.accepted
    assert outcome.granted is WC


def test_ram_write_back_is_for_everybody(guest: Guest) -> None:
    ram = guest.ram(pages=2)
    assert guest.driver("X").memremap(ram, WB).accepted
    assert guest.process("Y").mmap(ram, WB).accepted


@pytest.mark.parametrize("memtype", [UC, UC_MINUS, WC, WT], ids=lambda each: each.name)
def test_memory_that_nobody_maps_may_have_any_type(guest: Guest, memtype: MemType) -> None:
    assert guest.driver("X").ioremap(guest.mmio(pages=2), memtype).accepted


def test_memory_in_use_with_the_same_type(guest: Guest) -> None:
    bar = guest.mmio(pages=2)
    assert guest.driver("X").ioremap(bar, WC).accepted
    assert guest.process("Y").mmap(bar, WC).accepted


@pytest.mark.parametrize(
    ("first", "second", "granted"), [(WC, UC_MINUS, WC), (UC_MINUS, WC, UC_MINUS)], ids=["WC", "UC_MINUS"]
)
def test_memory_in_use_with_another_type_fails(
    guest: Guest, first: MemType, second: MemType, granted: MemType
) -> None:
    """Linux substitutes: nobody can trust that he got what he asked for."""
    bar = guest.mmio(pages=2)
    assert guest.driver("X").ioremap(bar, first).accepted

    outcome = guest.driver("Y").ioremap(bar, second)

    assert outcome.verdict.rule == "alias"
    assert outcome.verdict.errno == errno.EBUSY
    assert outcome.kernel.accepted
    assert outcome.granted is granted


def test_who_does_not_care_gets_the_type_in_use(guest: Guest) -> None:
    """A question of its own there; in Linux every request is one, whether its author knows it or not."""
    bar = guest.mmio(pages=2)
    assert not guest.lookup(bar).in_use
    assert guest.driver("X").ioremap(bar, WT).accepted

    assert guest.lookup(bar).memtype is WT
    assert guest.process("Y").mmap(bar, UC_MINUS).granted is WT


def test_who_does_not_care_where_types_differ(guest: Guest) -> None:
    """Neither side has an answer, and both say busy."""
    bar = guest.mmio(pages=2)
    assert guest.driver("X").ioremap(bar[0], WC).accepted
    assert guest.driver("X").ioremap(bar[1], UC_MINUS).accepted

    assert guest.lookup(bar).errno == errno.EBUSY
    both = guest.driver("Y").ioremap(bar, UC_MINUS)
    assert both.verdict.rule == "alias"
    assert both.kernel.rejected


def test_the_count_is_kept_beside_the_vmas(guest: Guest) -> None:
    """Andi Kleen's answer: a counted object in a tree of its own, since drivers have no VMA."""
    bar = guest.mmio(pages=2)
    driver, server = guest.driver("fb"), guest.process("X server")
    mapped = driver.ioremap(bar, WC)
    assert server.mmap(bar, WC).accepted
    assert mapped.mapping is not None

    driver.release(mapped.mapping)
    assert guest.driver("late").ioremap(bar, UC_MINUS).verdict.rule == "alias"
    assert [entry.memtype for entry in guest.memtype_list(bar)] == [WC, WC]

    server.exit()
    # The late driver's, which Linux gave the type of those before it.
    assert [entry.memtype for entry in guest.memtype_list(bar)] == [WC]
    assert not guest.lookup(bar).in_use


@pytest.mark.needs_config("DEVMEM")
def test_x_goes_its_own_way(guest: Guest) -> None:
    """The worry of the thread's end: a server that maps the frame buffer through /dev/mem."""
    bar = guest.mmio(pages=2)
    assert guest.driver("fb").ioremap(bar, WC).accepted

    server = guest.process("X server").mmap(bar, UC_MINUS, via="devmem")

    assert server.verdict.rule == "alias"
    assert server.kernel.accepted
    assert server.granted is WC


@pytest.mark.layout("wb-device")
def test_the_painful_case(guest: Guest) -> None:
    """MTRRs say write-back, the page table uncached: who looks at the MTRRs alone, such as SMM, has an alias.

    The verifier says so beside its verdict; Linux is silent.
    """
    outcome = guest.driver("X").ioremap(guest.mmio(pages=2), UC)

    assert outcome.accepted
    assert "mtrr-wb-uncached" in outcome.verdict.hazards
    # qemu64 is an AMD CPU: their name for it (APM vol. 2, "Combined Effect of MTRRs and PAT").
    assert outcome.effective is EffectiveType.CD
    assert outcome.kernel.log == ()
