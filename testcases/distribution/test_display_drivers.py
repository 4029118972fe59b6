"""The kernel's own display drivers: how the firmware's framebuffer is handed over, and what each driver maps.

vesafb has the mode that the firmware has set, and must be gone when a DRM driver maps the same memory
(drivers/video/aperture.c since 6.0, aperture_remove_conflicting_pci_devices()). Debian builds neither
simpledrm nor its platform device (CONFIG_SYSFB_SIMPLEFB and CONFIG_DRM_SIMPLEDRM are not set, 6.1 and 6.12).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from pytest_memtype import Effective, EffectiveType, Guest, MemType, Region
from pytest_memtype.distribution.x_server import on_region, run

pytestmark = pytest.mark.distribution

WC, UC_MINUS = MemType.WC, MemType.UC_MINUS

#: 1024x768 with 24 bits (VESA VBE 3.0, mode 0x118), told as vga= wants it.
FIRMWARE_MODE = "vga=0x318"
LATE = "modprobe.blacklist=bochs,qxl,virtio_gpu,cirrus"

PAGE = 4096


@dataclass(frozen=True)
class Driver:
    """A DRM driver, and the types that it gives to the BARs of its device, by number.

    :param refused: What it asks for and doesn't get: type asked for, type in use.
    :param loads: How often it can be loaded.
    """

    device: str
    module: str
    bars: dict[int, MemType]
    refused: tuple[tuple[MemType, MemType], ...] = ()
    loads: int = 2


QXL = Driver("qxl-vga", "qxl", {0: WC, 1: WC, 2: WC}, loads=1)
DRIVERS = [
    # bochs.c, bochs_hw_init(): ioremap() of all of BAR 0, and BAR 2 for its registers. Over it TTM asks for
    # WC (drm_gem_vram_helper.c, bo_driver_io_mem_reserve(), ttm_write_combined), and gets what is in use
    # (arch/x86/mm/ioremap.c, __ioremap_caller()). 6.1 and 6.12.
    Driver("VGA", "bochs", {0: UC_MINUS, 2: UC_MINUS}, refused=((WC, UC_MINUS),)),
    # qxl_kms.c, qxl_device_init(): io_mapping_create_wc() of BARs 0 and 1, ioremap_wc() of its ROM, BAR 2.
    # Once: see test_qxl_leaves_its_interrupt_handler_behind.
    QXL,
    # cirrus.c, cirrus_pci_probe(): devm_ioremap() of BARs 0 and 1.
    Driver("cirrus-vga", "cirrus", {0: UC_MINUS, 1: UC_MINUS}),
    # virtgpu_*.c: the framebuffer is the guest's RAM; BAR 0 is for VGA alone. BAR 2 is the transport's,
    # mapped by virtio-pci (virtio_pci_modern_dev.c, pci_iomap_range()), which stays.
    Driver("virtio-vga", "virtio_gpu", {}),
]


def hardware(driver: Driver) -> pytest.MarkDecorator:
    return pytest.mark.hardware(memory="1G", display=driver.device, cmdline=f"{FIRMWARE_MODE} {LATE}")


drivers = pytest.mark.parametrize(
    "driver", [pytest.param(each, marks=hardware(each), id=each.device) for each in DRIVERS]
)


def bars(guest: Guest) -> dict[int, Region]:
    """The memory of the VGA device, by number of its BAR."""
    path = run(guest, "dirname $(grep -l 0x0300 /sys/bus/pci/devices/*/class)")
    found = {}
    for number, line in enumerate(run(guest, f"head -n 6 {path}/resource").splitlines()):
        start, end, flags = (int(word, 16) for word in line.split())
        # IORESOURCE_MEM (include/linux/ioport.h).
        if flags & 0x200:
            found[number] = guest.region(start, max(end + 1 - start, PAGE))
    return found


def listed(guest: Guest, regions: dict[int, Region]) -> set[tuple[Region, MemType]]:
    """The kernel's own list."""
    return {(each.region, each.memtype) for region in regions.values() for each in guest.memtype_list(region)}


def mapped(guest: Guest, region: Region) -> set[tuple[MemType, Effective]]:
    """The types in all page tables, read from outside."""
    return {(each.memtype, each.effective) for each in on_region(guest.audit(), region)}


def refused_by_rule(guest: Guest, region: Region) -> set[tuple[MemType, MemType]]:
    """What a driver asked for beside another type: that, and the type that Linux gave it."""
    return {
        (each.requested, each.granted)
        for each in guest.observed(region)
        if each.rule == "alias" and each.requested is not None and each.granted is not None
    }


def framebuffer(guest: Guest) -> str:
    return re.sub(r"^\d+ ", "", run(guest, "cat /proc/fb"))


def load(guest: Guest, module: str) -> None:
    run(guest, f"modprobe {module}")


def unload(guest: Guest, module: str) -> None:
    # The console draws on it, and has a reference until it is unbound.
    consoles = run(guest, 'grep -l "frame buffer" /sys/class/vtconsole/*/name').split()
    for name in consoles:
        run(guest, f"echo 0 > {name.removesuffix('name')}bind")
    run(guest, f"modprobe -r {module}")


@drivers
def test_load_unload_load_again(guest: Guest, driver: Driver) -> None:
    """The firmware's driver gives way, each load maps the same, and nothing is left behind by an unload."""
    memory = bars(guest)
    screen = memory[0]
    assert framebuffer(guest) == "VESA VGA"
    # vesafb.c, vesafb_probe(): ioremap() unless the option mtrr:3 asks for WC.
    assert {memtype for _, memtype in listed(guest, {0: screen})} == {UC_MINUS}
    # The firmware has made the PCI hole UC by MTRR, and UC- over UC is UC (APM vol. 2, "Combined Effect of
    # MTRRs and PAT").
    assert mapped(guest, screen) == {(UC_MINUS, EffectiveType.UC)}
    firmwares = listed(guest, memory)
    mtrrs = guest.mtrr_list()

    loads = []
    for _ in range(driver.loads):
        load(guest, driver.module)
        assert driver.module.replace("_", "") in framebuffer(guest).replace("_", "")
        assert not guest.audit().conflicts
        loads.append(listed(guest, memory))
        for number, memtype in driver.bars.items():
            assert {each for region, each in loads[-1] if region.overlaps(memory[number])} == {memtype}
            # WC over UC is WC: the PAT's WC is the one type that an MTRR's UC gives way to (ibid.).
            effective = EffectiveType.WC if memtype is WC else EffectiveType.UC
            assert mapped(guest, memory[number]) == {(memtype, effective)}
        assert loads[-1].isdisjoint(firmwares) or not driver.bars
        unload(guest, driver.module)
        assert not [each for each in listed(guest, memory) if each not in firmwares]
        assert mapped(guest, screen) == set()
    assert all(each == loads[0] for each in loads)
    assert guest.mtrr_list() == mtrrs
    assert refused_by_rule(guest, screen) == set(driver.refused)


@drivers
def test_what_it_asks_for(guest: Guest, driver: Driver) -> None:
    """What the rules of 2005 would refuse it: a page has one type, and Linux gives that without a word."""
    memory = bars(guest)
    screen = memory[0]
    load(guest, driver.module)

    seen = [each for each in guest.observed(screen) if not each.seeded]

    assert guest.observation().complete
    asked = {
        number
        for number, region in memory.items()
        if any(each.module == driver.module for each in guest.observed(region))
    }
    assert asked == set(driver.bars)
    assert refused_by_rule(guest, screen) == set(driver.refused)
    assert {each.rule for each in seen} <= {None, "alias"}
    for each in seen:
        if each.rule:
            assert each.conflict is not None
            assert each.conflict.owner == driver.module
    unload(guest, driver.module)
    assert guest.tracked(screen) == ()


@hardware(QXL)
@pytest.mark.expect_oops(match="unable to handle page fault")
def test_qxl_leaves_its_interrupt_handler_behind(guest: Guest) -> None:
    """Unloaded it is still in the list of handlers, with a name in memory that is gone (6.1, 6.12).

    The next load may run it, too, on mappings that the unload has taken away: 6.12 has oopsed in
    qxl_irq_handler() then. No fault of memory types, but why qxl is loaded once above.
    """
    load(guest, QXL.module)
    unload(guest, QXL.module)

    guest.shell("cat /proc/interrupts")
