"""Xorg on a real display: what it maps, and with which type; who else may map the same; what is left of it.

The thread of 2005 left it open what the X server does beside the drivers. testcases/test_x_server.py plays
what it did then; here is what it does now. Its mappings are read from outside, in its page tables.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from pytest_memtype import Effective, EffectiveType, Guest, MemType, Region
from pytest_memtype.distribution.x_server import XServer, on_region, run, start
from pytest_memtype.errors import GuestError
from pytest_memtype.guest.proc_mtrr import ProcMtrr

pytestmark = pytest.mark.distribution

WB, WC, UC_MINUS = MemType.WB, MemType.WC, MemType.UC_MINUS

PAGE = 4096
MIB = 1 << 20

#: What the server's client paints, and how QEMU's picture has it.
COLOUR, PAINTED = "#3060c0", (0x30, 0x60, 0xC0)

LATE = "modprobe.blacklist=bochs,qxl,virtio_gpu,cirrus"
VGA = pytest.mark.hardware(memory="1G", display="VGA", cmdline=LATE)
# IO_STRICT_DEVMEM, which Debian's kernels have, keeps everybody from a range that a driver has claimed.
RELAXED = pytest.mark.hardware(memory="1G", display="VGA", cmdline=f"{LATE} iomem=relaxed")

# The BIOS has set a mode, and vesafb draws in it (1024x768, 24 bits; VESA VBE 3.0, mode 0x118).
FIRMWARES = f"{LATE} vga=0x318"


def display(guest: Guest) -> tuple[str, Region]:
    """The VGA device's folder in sysfs, and its first BAR."""
    path = run(guest, "dirname $(grep -l 0x0300 /sys/bus/pci/devices/*/class)")
    start, end, _ = (int(word, 16) for word in run(guest, f"head -n 1 {path}/resource").split())
    return path, guest.region(start, end + 1 - start)


def bus_id(path: str) -> str:
    """``0000:00:03.0`` as Xorg wants it."""
    bus, device, function = path.rsplit("/", 1)[1].replace(".", ":").split(":")[1:]
    return f"PCI:{int(bus, 16)}:{int(device, 16)}:{int(function, 16)}"


def on_bochs(guest: Guest) -> tuple[XServer, Region]:
    """The server on the driver of QEMU's VGA, with its picture painted."""
    path, screen = display(guest)
    run(guest, "modprobe bochs")
    # glamor wants OpenGL, and has only a slow one here.
    x_server = start(guest, "modesetting", AccelMethod="none", BusID=bus_id(path))
    x_server.fill(COLOUR)
    return x_server, screen


def on_vesa(guest: Guest) -> tuple[XServer, Region]:
    """The server with no driver of the kernel's at all, as in 2005."""
    path, screen = display(guest)
    x_server = start(guest, "vesa", BusID=bus_id(path))
    x_server.fill(COLOUR)
    return x_server, screen


def painted(guest: Guest) -> tuple[int, int]:
    """Size of the picture, which has one colour."""
    picture = guest.screenshot()
    assert picture.colours() == {PAINTED: picture.width * picture.height}
    return picture.width, picture.height


def kernels_list(guest: Guest, region: Region) -> list[tuple[int, int, MemType]]:
    return [(each.region.start, each.region.pages, each.memtype) for each in guest.memtype_list(region)]


def types(guest: Guest, region: Region) -> set[tuple[str, MemType, Effective]]:
    """Who has any page of it, in all page tables: process or part of the kernel, type, effective type."""
    return {
        (each.process[1] if each.process else each.region, each.memtype, each.effective)
        for each in on_region(guest.audit(), region)
    }


@VGA
def test_it_draws_and_has_the_drivers_type(guest: Guest) -> None:
    """1280x800, as QEMU's EDID prefers (QEMU 7.2, hw/display/edid-generate.c), 4 bytes a pixel."""
    _, screen = display(guest)
    mtrrs = guest.mtrr_list()
    x_server, _ = on_bochs(guest)

    assert painted(guest) == (1280, 800)
    audit = guest.audit()
    mine = x_server.mappings(screen, audit)
    assert sum(each.pages for each in mine) == 1280 * 800 * 4 // PAGE
    assert {(each.path, each.size) for each in x_server.device_files()} >= {
        ("/dev/dri/card0", 1280 * 800 * 4)
    }
    # bochs_hw_init() has all of the BAR UC- (drivers/gpu/drm/tiny/bochs.c, 6.1 and 6.12). A fault of the
    # server's gets the type in use, though TTM asks for WC (vmf_insert_pfn_prot(), track_pfn_insert()); UC-
    # over the firmware's UC is UC.
    assert {(each.memtype, each.effective) for each in mine} == {(UC_MINUS, EffectiveType.UC)}
    assert types(guest, screen) == {
        ("Xorg", UC_MINUS, EffectiveType.UC),
        ("vmalloc", UC_MINUS, EffectiveType.UC),
    }
    assert not audit.conflicts
    assert {each.rule for each in guest.observed(screen) if each.task == "Xorg"} == {"alias"}
    # No driver of today's asks for an MTRR while there is the PAT (arch_phys_wc_add(), 4.0 and later).
    assert guest.mtrr_list() == mtrrs
    x_server.stop()


@VGA
@pytest.mark.parametrize("end", [XServer.stop, XServer.kill], ids=["SIGTERM", "SIGKILL"])
def test_end_and_restart(guest: Guest, end: Callable[[XServer], None]) -> None:
    """Before and after are the same, and another server draws where the first did."""
    _, screen = display(guest)
    run(guest, "modprobe bochs")
    before = kernels_list(guest, screen), types(guest, screen), guest.mtrr_list()
    first, _ = on_bochs(guest)
    size = painted(guest)

    end(first)

    assert (kernels_list(guest, screen), types(guest, screen), guest.mtrr_list()) == before
    second, _ = on_bochs(guest)
    assert painted(guest) == size
    assert {each.memtype for each in second.mappings(screen)} == {UC_MINUS}
    assert not guest.audit().conflicts
    second.kill()
    assert kernels_list(guest, screen) == before[0]


@VGA
def test_switch_of_the_virtual_terminal(guest: Guest) -> None:
    """The console's picture and the server's lie in one BAR, with one type; both come back as they were."""
    x_server, screen = on_bochs(guest)
    size = painted(guest)
    mine = {(each.start, each.pages, each.memtype) for each in x_server.mappings(screen)}
    before = kernels_list(guest, screen)

    run(guest, "chvt 1")
    assert PAINTED not in guest.screenshot().colours()
    assert {memtype for _, memtype, _ in types(guest, screen)} == {UC_MINUS}
    assert not guest.audit().conflicts
    run(guest, "chvt 7")

    x_server.fill(COLOUR)
    assert painted(guest) == size
    assert {(each.start, each.pages, each.memtype) for each in x_server.mappings(screen)} >= mine
    assert kernels_list(guest, screen) == before
    x_server.stop()


@VGA
def test_second_driver(guest: Guest) -> None:
    """It asks for WC while the server draws: the verifier names who is in the way, Linux gives UC-."""
    x_server, screen = on_bochs(guest)
    second = guest.driver("second")

    asked = second.ioremap(screen[:16], WC)

    assert asked.verdict.rule == "alias"
    assert asked.verdict.conflict is not None
    assert asked.verdict.conflict.owner == "bochs"
    assert asked.verdict.conflict.observed
    assert (asked.granted, asked.effective) == (UC_MINUS, EffectiveType.UC)
    agreed = second.ioremap(screen[16:32], UC_MINUS)
    assert agreed.accepted
    assert not guest.audit().conflicts
    assert painted(guest) == (1280, 800)
    x_server.kill()
    assert asked.mapping is not None
    second.release(asked.mapping)


@VGA
def test_devmem_is_kept_away(guest: Guest) -> None:
    """What a driver has claimed nobody maps by /dev/mem (iomem_is_exclusive(), IO_STRICT_DEVMEM)."""
    x_server, screen = on_bochs(guest)

    beside = guest.process("beside").mmap(screen[:16], UC_MINUS, via="devmem")

    assert beside.kernel.errno == errno.EPERM
    assert beside.mapping is None
    assert painted(guest) == (1280, 800)
    x_server.stop()


@RELAXED
@pytest.mark.parametrize("memtype", [UC_MINUS, WB], ids=str)
def test_devmem_beside_the_server(guest: Guest, memtype: MemType) -> None:
    """With iomem=relaxed it is let in, with the type in use, whatever it asks for."""
    x_server, screen = on_bochs(guest)
    process = guest.process("beside")

    beside = process.mmap(screen[:16], memtype, via="devmem")

    assert (beside.granted, beside.effective) == (UC_MINUS, EffectiveType.UC)
    assert (beside.verdict.rule == "alias") is (memtype is WB)
    assert not guest.audit().conflicts
    x_server.kill()
    assert beside.mapping is not None
    assert set(process.page_table(beside.mapping, guest.registers()[0])) == {UC_MINUS}


@VGA
def test_without_a_driver_of_the_kernels(guest: Guest) -> None:
    """The vesa driver maps the BAR itself, WC by sysfs, and the firmware's first MiB by /dev/mem."""
    _, screen = display(guest)
    before = kernels_list(guest, screen), guest.mtrr_list()
    x_server, _ = on_vesa(guest)

    painted(guest)
    # libpciaccess 0.17, linux_sysfs.c, pci_device_linux_sysfs_map_range(): resource0_wc where there is one.
    (path,) = {each.path for each in x_server.device_files() if each.path.startswith("/sys/")}
    assert path.endswith("/resource0_wc")
    audit = guest.audit()
    mine = x_server.mappings(screen, audit)
    assert sum(each.pages for each in mine) == screen.pages
    # WC over the firmware's UC is WC (AMD APM vol. 2, "Combined Effect of MTRRs and PAT").
    assert {(each.memtype, each.effective) for each in mine} == {(WC, EffectiveType.WC)}
    assert guest.mtrr_list() == before[1]
    # int10 runs the VGA BIOS and maps its window: the first MiB is WB for everybody, and the fixed MTRRs have
    # the last word (arch/x86/mm/pat/memtype.c, memtype_reserve(): "Low ISA region is always mapped WB").
    window = x_server.mappings(guest.region(0xA0000, 0x20000), audit)
    assert {(each.memtype, each.effective) for each in window} == {(WB, EffectiveType.UC)}
    # So SMM's own accesses are UC too: its memory is behind the window.
    assert {each.rule for each in guest.observed(guest.region(0xA0000, 0x20000))} == {None}
    assert not audit.conflicts
    x_server.kill()
    assert (kernels_list(guest, screen), guest.mtrr_list()) == before
    assert types(guest, screen) == set()


@VGA
def test_driver_that_comes_beside_it(guest: Guest) -> None:
    """The server has the BAR WC: what asks for UC- beside it gets WC."""
    x_server, screen = on_vesa(guest)

    asked = guest.driver("late").ioremap(screen[:16], UC_MINUS)

    assert asked.verdict.rule == "alias"
    assert asked.verdict.conflict is not None
    assert asked.verdict.conflict.owner.startswith("Xorg")
    assert (asked.granted, asked.effective) == (WC, EffectiveType.WC)
    assert not guest.audit().conflicts
    x_server.stop()


@pytest.mark.hardware(memory="1G", display="VGA", cmdline=FIRMWARES)
def test_firmwares_framebuffer_is_kept_from_it(guest: Guest) -> None:
    """What vesafb has claimed sysfs maps for nobody else (drivers/pci/pci-sysfs.c, pci_mmap_resource())."""
    _, screen = display(guest)
    before = kernels_list(guest, screen), types(guest, screen)

    with pytest.raises(GuestError, match="Xorg with vesa doesn't start"):
        on_vesa(guest)

    assert not [each for each in guest.observed(screen) if each.task == "Xorg"]
    assert (kernels_list(guest, screen), types(guest, screen)) == before


@pytest.mark.hardware(memory="1G", display="VGA", cmdline=f"{FIRMWARES} iomem=relaxed")
def test_beside_the_firmwares_driver(guest: Guest) -> None:
    """The server asks for all of the BAR as WC, vesafb has a part as UC-: Linux gives UC- for all."""
    _, screen = display(guest)
    (vesafb,) = guest.memtype_list(screen)
    assert vesafb.memtype is UC_MINUS
    try:
        x_server, _ = on_vesa(guest)
    except GuestError:
        # xf86-video-vesa 2.6.0, which trixie has: "Framebuffer or dri device present".
        assert "vesa: Refusing to run" in run(guest, "cat /run/memtype-xorg.log")
        pytest.skip("the vesa driver of this Xorg refuses to run beside a driver of the kernel's")

    painted(guest)
    mine = x_server.mappings(screen)
    assert sum(each.pages for each in mine) == screen.pages
    # memtype_check_conflict() looks for a type for the whole range (arch/x86/mm/pat/memtype_interval.c).
    assert {(each.memtype, each.effective) for each in mine} == {(UC_MINUS, EffectiveType.UC)}
    asked = [each for each in guest.observed(screen) if each.task == "Xorg"]
    assert (WC, UC_MINUS, "alias") in {(each.requested, each.granted, each.rule) for each in asked}
    assert not guest.audit().conflicts
    x_server.kill()
    assert guest.memtype_list(screen) == (vesafb,)


@pytest.mark.hardware(memory="1G", display="qxl-vga", cmdline=LATE)
@pytest.mark.parametrize("end", [XServer.stop, XServer.kill], ids=["SIGTERM", "SIGKILL"])
def test_mtrr_of_a_bar_that_is_not_prefetchable(guest: Guest, end: Callable[[XServer], None]) -> None:
    """There is no resource0_wc, so libpciaccess asks for an MTRR, by ioctl: it goes with the server."""
    _, screen = display(guest)
    before = guest.mtrr_list()
    x_server, _ = on_vesa(guest)

    painted(guest)
    (path,) = {each.path for each in x_server.device_files() if each.path.startswith("/sys/")}
    assert path.endswith("/resource0")
    audit = guest.audit()
    added: set[ProcMtrr] = {*guest.mtrr_list()} - {*before}
    assert [(each.base, each.size, each.memtype) for each in added] == [(screen.start, 16 * MIB, WC)]
    # UC wins over WC where variable MTRRs overlap (Intel SDM vol. 3, "MTRR Precedences"), and the firmware
    # has the whole PCI hole UC: the MTRR that it got is of no use.
    mine = x_server.mappings(screen, audit)
    assert {(each.memtype, each.effective) for each in mine} == {(UC_MINUS, EffectiveType.UC)}
    assert not audit.conflicts

    end(x_server)

    # mtrr_close() (arch/x86/kernel/cpu/mtrr/if.c).
    assert guest.mtrr_list() == before
    assert types(guest, screen) == set()
