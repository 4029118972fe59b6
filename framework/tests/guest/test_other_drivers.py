"""Drivers that others wrote, out of the kernel's package: loaded, observed, audited.

docs/test-your-driver.md has what each maps. bochs and qxl, which no cloud kernel has, are in
testcases/distribution/test_display_drivers.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from memtype_support.tiny_program import install_program

from pytest_memtype import Guest, Hardware, MemType, Region
from pytest_memtype.guest.observation import Observation
from pytest_memtype.plugin.fixtures import GuestFactory
from pytest_memtype.x86.effective import Severity
from pytest_memtype.x86.pat import LINUX_PAT
from pytest_memtype.x86.pte import PageSize, memtype_of_entry

SERIES = ["debian:bullseye", "debian:bookworm", "debian:trixie", "debian:trixie-backports"]
UC_MINUS, WC = MemType.UC_MINUS, MemType.WC

series = pytest.mark.parametrize("spec", SERIES)


def mapped(guest: Guest, region: Region) -> list[Observation]:
    """What others have mapped of a region, or had when the module was loaded."""
    assert guest.observation().complete
    return [each for each in guest.observed() if each.region.overlaps(region)]


def assert_nothing_dangerous(guest: Guest) -> None:
    assert guest.aliases() == ()
    assert [each for each in guest.audit().findings if each.danger > Severity.INFO] == []


@series
def test_nvme(guest_factory: GuestFactory, spec: str) -> None:
    """Registers and doorbells, nvme_remap_bar() in drivers/nvme/host/pci.c; behind them the table of MSI-X.

    Part of each cloud kernel. QEMU can't save it for an audit.
    """
    guest = guest_factory(kernel=spec, hardware=Hardware(devices=("nvme,serial=1",)))
    device = guest.pci("1b36:0010")
    (bar,) = device.bars
    assert device.driver == "nvme"
    assert {(each.region, each.granted) for each in mapped(guest, bar.region)} == {
        (bar.region[0:2], UC_MINUS),
        (bar.region[2:3], UC_MINUS),
    }
    assert guest.aliases() == ()


@series
def test_virtio(guest_factory: GuestFactory, spec: str) -> None:
    """Four structures, each a page, by map_capability() in drivers/virtio/virtio_pci_modern.c (5.10) and
    vp_modern_map_capability() in virtio_pci_modern_dev.c. Built into Debian's cloud kernels from 6.12 on."""
    guest = guest_factory(kernel=spec, hardware=Hardware(devices=("virtio-net-pci,romfile=",)))
    if guest.version < (6, 12):
        guest.load("virtio_pci")
    device = guest.pci("1af4:1000")
    bar = device.bars[-1]
    found = mapped(guest, bar.region)
    assert sorted((each.region.start - bar.region.start, each.region.pages) for each in found) == [
        (0, 1),
        (0x1000, 1),
        (0x2000, 1),
        (0x3000, 1),
    ]
    assert {each.granted for each in found} == {UC_MINUS}
    assert_nothing_dangerous(guest)


@series
def test_uio_pci_generic(guest_factory: GuestFactory, spec: str) -> None:
    """It has interrupts alone to give to a process, and maps nothing (drivers/uio/uio_pci_generic.c)."""
    guest = guest_factory(kernel=spec, hardware=Hardware(devices=("edu",)))
    device = guest.pci("1234:11e8")
    device.bind(guest.load("uio_pci_generic"))
    assert device.driver == "uio_pci_generic"
    assert mapped(guest, device.bars[0].region) == []
    assert_nothing_dangerous(guest)


@dataclass(frozen=True)
class Vfio:
    """How a kernel's vfio-pci maps a BAR of 4 MiB for a process.

    :param size: Of the pages.
    :param pages: How many of 4 KiB one fault maps.
    :param reserved: How often the type is reserved: by its own ioremap(), and by the process's mapping.
    """

    size: PageSize
    pages: int
    reserved: int


# vfio_pci_mmap_fault() mapped all of the VMA by io_remap_pfn_range(), which reserves.
# Since 6.12 vmf_insert_pfn_pmd(), which reserves nothing: vfio_pci_mmap_huge_fault() in vfio_pci_core.c.
VFIO = {
    "debian:bullseye": Vfio(PageSize.SIZE_4K, 1024, 2),
    "debian:bookworm": Vfio(PageSize.SIZE_4K, 1024, 2),
    "debian:trixie": Vfio(PageSize.SIZE_2M, 512, 1),
    "debian:trixie-backports": Vfio(PageSize.SIZE_2M, 512, 1),
}


@pytest.mark.parametrize("spec", VFIO)
def test_vfio_pci(guest_factory: GuestFactory, tmp_path: Path, spec: str) -> None:
    """A process has a BAR by VFIO, whose driver maps it, too: both UC-, vfio_pci_core_mmap().

    VFIO wants an IOMMU, which has to be there before the device: QEMU takes devices in the order given.
    """
    hardware = Hardware(devices=("intel-iommu", "pci-testdev,membar=4M"), cmdline="intel_iommu=on")
    guest = guest_factory(kernel=spec, hardware=hardware)
    # QEMU under KVM doesn't remap interrupts in every machine.
    guest.load("vfio_iommu_type1", parameters={"allow_unsafe_interrupts": 1})
    guest.load("vfio-pci")
    device = guest.pci("1b36:0005")
    device.bind("vfio-pci")
    bar = device.bars[-1]
    mapper = install_program(guest, tmp_path, "vfio_map")
    group = guest.shell(
        f"basename $(readlink /sys/bus/pci/devices/{device.address}/iommu_group)"
    ).output.strip()
    command = f"{mapper} /dev/vfio/{group} {device.address} {bar.number}"
    said = guest.shell(
        f"mkfifo /tmp/said; {command} > /tmp/said & echo $! > /tmp/pid; head -n 1 /tmp/said"
    ).output
    entry, shift, pages = (int(word, 16) for word in said.split())

    expected = VFIO[spec]
    assert (1 << shift, pages) == (expected.size, expected.pages)
    assert memtype_of_entry(entry, page_size=PageSize(1 << shift), pat=LINUX_PAT) is UC_MINUS
    seen = mapped(guest, bar.region)
    assert [(each.region, each.requested, each.granted) for each in seen] == [
        (bar.region, UC_MINUS, UC_MINUS)
    ] * expected.reserved
    assert {str(each.module).removesuffix("_core") for each in seen} == {"vfio_pci"}
    assert_nothing_dangerous(guest)

    second = guest.driver("drm").ioremap(bar.region, WC)
    assert (second.verdict.rule, second.granted) == ("alias", UC_MINUS)
    assert second.mapping is not None
    guest.driver("drm").release(second.mapping)
    # Nobody waits for it; when nothing of it is left but its number, all that it held is gone.
    lives = "grep -qs '^State:[[:space:]][^Z]' /proc/$(cat /tmp/pid)/status"
    ended = guest.shell(f"kill $(cat /tmp/pid); while {lives}; do usleep 1000; done")
    assert (ended.status, ended.output) == (0, "")
    assert guest.tracked(bar.region) == ()
    assert guest.memtype_list(bar.region) == ()
