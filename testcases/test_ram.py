"""Rule 1: a page of RAM, one with a struct page, may only be mapped write-back.

Linux allows more: it keeps the type of RAM in two page flags and lets ``set_memory_uc()`` and
``set_memory_wc()`` change it ("rules" as in test_multi_driver.py, section 2.2).
"""

from __future__ import annotations

import errno

import pytest

from pytest_memtype import Guest, MemType, Region

UC, UC_MINUS, WC, WT, WP, WB = (
    MemType.UC,
    MemType.UC_MINUS,
    MemType.WC,
    MemType.WT,
    MemType.WP,
    MemType.WB,
)

pytestmark = [pytest.mark.layout("firmware"), pytest.mark.needs_module]


@pytest.mark.parametrize("memtype", [UC, UC_MINUS, WC, WT, WP, WB], ids=lambda memtype: memtype.name)
def test_only_write_back_is_accepted(guest: Guest, memtype: MemType) -> None:
    verdict = guest.verify(guest.ram(pages=3), memtype)

    assert verdict.accepted == (memtype is WB)
    if memtype is not WB:
        assert verdict.rule == "ram-not-wb"
        assert verdict.errno == errno.EPERM


@pytest.mark.expect_oops(match="ioremap on RAM")
@pytest.mark.parametrize("memtype", [UC, UC_MINUS, WC, WT, WP, WB], ids=lambda memtype: memtype.name)
def test_ioremap_of_ram(guest: Guest, memtype: MemType) -> None:
    """Linux refuses every ioremap of RAM, with a warning the first time (rules, 2.4)."""
    ram = guest.ram(pages=1)

    outcome = guest.driver("ndiswrapper").ioremap(ram, memtype)

    assert outcome.verdict.accepted == (memtype is WB)
    assert outcome.kernel.rejected
    assert any("ioremap on RAM" in line for line in outcome.kernel.log)
    assert outcome.granted is None
    # Accepted by the verifier and refused by the kernel: there is no mapping to count.
    assert guest.tracked(ram) == ()


@pytest.mark.parametrize(
    "memtype",
    [
        WB,
        pytest.param(WT, marks=pytest.mark.expect_oops(match="memremap attempted on ram")),
        pytest.param(WC, marks=pytest.mark.expect_oops(match="memremap attempted on ram")),
    ],
    ids=lambda memtype: memtype.name,
)
def test_memremap_of_ram(guest: Guest, memtype: MemType) -> None:
    """memremap() gives the direct map for WB and nothing for the others (rules, 2.4)."""
    ram = guest.ram(pages=2)
    driver = guest.driver("pmem")

    outcome = driver.memremap(ram, memtype)

    assert outcome.verdict.rule == (None if memtype is WB else "ram-not-wb")
    assert outcome.kernel.accepted == (memtype is WB)
    assert outcome.granted is (WB if memtype is WB else None)
    assert [mapping.owner for mapping in guest.tracked(ram)] == (["pmem"] if memtype is WB else [])
    if outcome.mapping is not None:
        driver.release(outcome.mapping)
    assert guest.tracked(ram) == ()


@pytest.mark.parametrize("memtype", [UC_MINUS, WC], ids=lambda memtype: memtype.name)
def test_set_memory(guest: Guest, memtype: MemType) -> None:
    """What the thread forbade Linux does for a living: the verifier refuses, the direct map changes."""
    ram = guest.ram(pages=2)
    driver = guest.driver("agp")

    outcome = driver.set_memory(ram, memtype)

    assert outcome.verdict.rule == "ram-not-wb"
    assert outcome.kernel.accepted
    assert outcome.granted is memtype
    assert guest.tracked(ram) == ()
    # RAM never appears in the kernel's list: its type is kept in page flags.
    assert guest.memtype_list(ram) == ()
    assert outcome.mapping is not None
    driver.release(outcome.mapping)
    back = driver.set_memory(ram, WB)
    assert back.accepted


@pytest.mark.parametrize("first", [UC_MINUS, WC], ids=lambda memtype: memtype.name)
@pytest.mark.parametrize("second", [UC_MINUS, WC], ids=lambda memtype: memtype.name)
def test_set_memory_has_no_reference_count(guest: Guest, first: MemType, second: MemType) -> None:
    """A page that isn't write-back can't be changed, not even to the type it has: -EBUSY (rules, 2.2)."""
    ram = guest.ram(pages=1)
    driver = guest.driver("agp")
    one = driver.set_memory(ram, first)
    assert one.kernel.accepted

    two = driver.set_memory(ram, second)

    assert two.verdict.rule == "ram-not-wb"
    assert two.kernel.errno == errno.EBUSY
    assert any("reserve_ram_pages_type failed" in line for line in two.kernel.log)
    assert two.mapping is None
    assert one.mapping is not None
    assert driver.page_table(one.mapping, guest.registers()[0]) == (first,)


def test_write_back_is_shared_and_counted(guest: Guest) -> None:
    """Rule 1 allows write-back to any number of drivers and processes."""
    ram = guest.ram(pages=2)
    driver = guest.driver("pmem")
    process = guest.process("X")

    one, two = driver.memremap(ram, WB), process.mmap(ram, WB)

    assert one.accepted
    assert two.accepted
    assert sorted(mapping.owner for mapping in guest.tracked(ram)) == ["X", "pmem"]
    assert one.mapping is not None
    driver.release(one.mapping)
    assert [mapping.owner for mapping in guest.tracked(ram)] == ["X"]
    process.exit()
    assert guest.tracked(ram) == ()


# With SMM on, the hole is SMRAM, which has a rule of its own (test_smm.py).
@pytest.mark.hardware(smm=False)
def test_one_page_of_ram_is_enough(guest: Guest) -> None:
    """A range that ends in RAM or begins in it is RAM for rule 1: every page is checked."""
    top = guest.hardware.memory_bytes
    # The last page below the legacy hole and the first behind it: RAM, no RAM, RAM.
    across = Region(0x9E000, 0x100 - 0x9E + 1)
    begins_in_ram, ends_in_ram = Region(0x9E000, 0x22), Region(0xA0000, 0x100 - 0xA0 + 1)
    for region in (across, begins_in_ram, ends_in_ram):
        assert guest.verify(region, UC_MINUS).rule == "ram-not-wb", region
        assert guest.verify(region, WB).accepted, region
    # The hole between them, without either.
    assert guest.verify(Region(0xA0000, 0x20), UC_MINUS).accepted
    # The top of RAM belongs to the firmware's tables; beyond it there is nothing.
    assert guest.verify(Region(top, 4), UC_MINUS).accepted


def test_lookup(guest: Guest) -> None:
    """lookup_pfn_memtype: the type in use, else a default, else EBUSY where pages differ."""
    ram, bar = guest.ram(pages=1), guest.mmio(pages=4)
    assert guest.lookup(ram).memtype is WB
    assert not guest.lookup(bar).in_use
    assert guest.lookup(bar).memtype is UC_MINUS

    guest.driver("drm").ioremap(bar[0:2], WC)
    assert guest.lookup(bar).memtype is WC
    assert guest.lookup(bar).in_use
    guest.driver("drm").ioremap(bar[2:4], WT)
    differing = guest.lookup(bar)
    assert differing.memtype is None
    assert differing.errno == errno.EBUSY
