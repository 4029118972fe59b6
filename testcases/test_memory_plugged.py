"""RAM that comes while the kernel runs: what MTRRs, page tables and the kernel's own list say of it then.

Linux gives it a write-back direct map (arch/x86/mm/init_64.c, arch_add_memory(), 5.10 to 7.3). Neither the
MTRRs nor the reservations that are there for the same memory are asked.
"""

from __future__ import annotations

import pytest

from pytest_memtype import EffectiveType, Guest, Layout, Leaves, MemType, MtrrRange, PageSize, Region

WB, WC, UC, UC_MINUS, WT, WP = (MemType[name] for name in ("WB", "WC", "UC", "UC_MINUS", "WT", "WP"))

#: QEMU plugs in behind all RAM, at a whole GiB, and not below 4 GiB (7.2 to 11.0, hw/i386/pc.c,
#: pc_get_device_memory_range()).
NEW = Region(1 << 32, (128 << 20) >> 12)
PART = NEW[512:528]

#: The memory that comes is uncached by the default type.
UNCOVERED = Layout("uncovered", default=UC, ranges=[MtrrRange(0, "256M", WB)])
#: As UNCOVERED, with types of all kinds elsewhere.
MIXED = Layout(
    "plugged",
    default=UC,
    ranges=[MtrrRange(0, "256M", WB), MtrrRange(0xFD800000, "1M", WT), MtrrRange("8G", "1G", WP)],
)

ROOM = {"most_memory": "1G"}
pytestmark = [
    pytest.mark.needs_module,
    pytest.mark.hardware(**ROOM),
    pytest.mark.needs_config("MEMORY_HOTPLUG", "ACPI_HOTPLUG_MEMORY"),
]
WITH_REMOVAL = pytest.mark.needs_config("MEMORY_HOTREMOVE")


def total(guest: Guest) -> int:
    """Bytes of RAM that the kernel has, by ``/proc/meminfo``."""
    return int(guest.shell("grep MemTotal /proc/meminfo").output.split()[1]) << 10


@pytest.mark.layout(MIXED)
@pytest.mark.parametrize("cpus", [1, pytest.param(2, marks=pytest.mark.hardware(cpus=2, **ROOM))])
def test_what_was_there_stays(guest: Guest, cpus: int) -> None:
    """Registers of each CPU, mappings, and both lists are afterwards what they were."""
    bar = guest.mmio(pages=16, align=16)
    assert guest.process("Xorg").mtrr_add(bar.start, bar.size, WC).accepted
    drm = guest.driver("drm")
    mapped = drm.ioremap(bar, UC_MINUS)
    assert mapped.effective is EffectiveType.WC
    before = guest.registers()
    lists = guest.memtype_list(), guest.mtrr_list(), guest.tracked()
    memory = total(guest)
    assert len(before) == cpus

    assert guest.plug_memory("128M") == NEW

    assert total(guest) - memory == NEW.size
    after = guest.registers()
    assert [each.mtrr for each in after] == [each.mtrr for each in before]
    assert [each.pat for each in after] == [each.pat for each in before]
    assert (guest.memtype_list(), guest.mtrr_list(), guest.tracked()) == lists
    assert guest.register_disagreements() == ()
    assert mapped.mapping is not None
    assert drm.page_table(mapped.mapping, after[0]) == (UC_MINUS,) * 16
    assert set(guest.effective(bar)) == {EffectiveType.WC}


@pytest.mark.expect_oops(match="ioremap on RAM")
def test_device_memory_becomes_ram(guest: Guest) -> None:
    """What a driver may map with any type it may map write-back alone, and Linux no more by ioremap()."""
    drm = guest.driver("drm")
    assert guest.lookup(PART).memtype is UC_MINUS
    assert set(guest.kernel.direct_pages(NEW).types) == {None}
    device = drm.ioremap(PART, WC)
    assert device.accepted
    assert device.mapping is not None
    drm.release(device.mapping)

    guest.plug_memory("128M")

    assert guest.lookup(PART).memtype is WB
    direct = guest.kernel.direct_pages(NEW)
    # Each piece of 2 MiB is one entry (arch/x86/mm/init.c, split_mem_range()).
    assert direct.leaves == (Leaves(PageSize.SIZE_2M, NEW.pages, WB),)
    assert direct.in_order
    # A verdict, a refusal, and nothing that is left.
    again = drm.ioremap(PART, WC)
    assert again.verdict.rule == "ram-not-wb"
    assert again.kernel.rejected
    assert again.granted is None
    assert any("ioremap on RAM" in line for line in again.kernel.log)
    # As all RAM (test_ram.py): the direct map gets the type, which is kept in page flags.
    changed = drm.set_memory(PART, WC)
    assert changed.verdict.rule == "ram-not-wb"
    assert changed.kernel.accepted
    assert changed.granted is WC
    assert changed.mapping is not None
    drm.release(changed.mapping)
    assert drm.set_memory(PART, WB).accepted
    assert set(guest.kernel.direct_pages(NEW).types) == {WB}
    assert guest.memtype_list(PART) == ()


@pytest.mark.layout(UNCOVERED)
def test_mtrrs_that_do_not_cover_it(guest: Guest) -> None:
    """Linux uses it, though at boot it gives up RAM that no write-back MTRR covers.

    That is looked at once, at boot (arch/x86/kernel/cpu/mtrr/cleanup.c, mtrr_trim_uncached_memory()).
    """
    memory = total(guest)
    # Of device memory Linux asks the MTRRs: UC- for WB (arch/x86/mm/pat/memtype.c, pat_x_mtrr_type()).
    device = guest.driver("pmem").ioremap(PART, WB)
    assert (device.granted, device.effective) == (UC_MINUS, EffectiveType.UC)
    assert device.mapping is not None
    guest.driver("pmem").release(device.mapping)

    guest.plug_memory("128M")

    assert total(guest) - memory == NEW.size
    assert set(guest.kernel.direct_pages(NEW).types) == {WB}
    ram = guest.driver("pmem").memremap(PART, WB)
    assert ram.accepted
    assert ram.granted is WB
    # Both vendors: UC by the MTRRs, whatever the page attribute but WC.
    assert ram.effective is EffectiveType.UC
    assert set(guest.effective(PART)) == {EffectiveType.UC}
    assert ram.verdict.hazards == ()
    # The judge outside knows that it is RAM, and not write-back.
    found = [each for each in guest.audit().findings if each.kind.name == "RAM_NOT_WB"]
    assert [(each.start, each.pages, each.effective) for each in found if each.start >= NEW.start] == [
        (NEW.start, NEW.pages, (EffectiveType.UC,))
    ]


def test_a_mapping_that_is_there_already(guest: Guest) -> None:
    """A write-combining mapping lives on beside the direct map: an alias that Linux doesn't look for.

    What becomes of its reservation is the bug ``hotplug-leak`` (bugs/test_hotplug_leaks_reservation.py).
    """
    drm = guest.driver("drm")
    mapped = drm.ioremap(PART, WC)
    assert mapped.accepted
    assert mapped.mapping is not None

    guest.plug_memory("128M")

    assert drm.page_table(mapped.mapping, guest.registers()[0]) == (WC,) * PART.pages
    assert set(guest.kernel.direct_pages(PART).types) == {WB}
    (conflict,) = guest.audit().conflicts
    assert (conflict.start, conflict.pages, set(conflict.effective)) == (PART.start, PART.pages, {WB, WC})
    # The verifier goes by what the memory is now, and counts what was accepted before.
    assert guest.verify(PART, WC).rule == "ram-not-wb"
    assert guest.verify(PART, WB).accepted
    assert [(each.owner, each.memtype) for each in guest.tracked(PART)] == [("drm", WC)]
    assert [(each.region, each.memtype) for each in guest.memtype_list(PART)] == [(PART, WC)]

    drm.release(mapped.mapping)
    assert guest.audit().conflicts == ()
    assert guest.tracked(PART) == ()


@WITH_REMOVAL
def test_memory_that_goes_and_comes_back(guest: Guest) -> None:
    """Nothing is left of the types that its pages had: struct pages and direct map are others."""
    memory = total(guest)
    agp = guest.driver("agp")
    guest.plug_memory("128M")
    assert agp.set_memory(PART, WC).granted is WC

    guest.unplug_memory(NEW)

    assert total(guest) == memory
    assert set(guest.kernel.direct_pages(NEW).types) == {None}
    assert guest.verify(PART, WC).accepted
    assert guest.plug_memory("128M") == NEW
    assert set(guest.kernel.direct_pages(NEW).types) == {WB}
    assert guest.lookup(PART).memtype is WB
    # A page with another type than WB would be refused (reserve_ram_pages_type()).
    assert agp.set_memory(PART, UC_MINUS).granted is UC_MINUS
