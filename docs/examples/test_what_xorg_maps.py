"""Prints what Xorg and the kernel have mapped of a display's memory. Run it with -n 0 -s."""

from __future__ import annotations

import pytest

from pytest_memtype import Guest
from pytest_memtype.distribution.x_server import on_region, run, start

LATE = "modprobe.blacklist=bochs,qxl,virtio_gpu,cirrus"


@pytest.mark.distribution
@pytest.mark.hardware(memory="1G", display="VGA", cmdline=LATE)
@pytest.mark.parametrize("driver", ["modesetting", "vesa"])
def test_what_xorg_maps(guest: Guest, driver: str) -> None:
    path = run(guest, "dirname $(grep -l 0x0300 /sys/bus/pci/devices/*/class)")
    begin, end, _ = (int(word, 16) for word in run(guest, f"head -n 1 {path}/resource").split())
    device = int(path.rsplit(":", 1)[1].partition(".")[0], 16)
    if driver == "modesetting":
        run(guest, "modprobe bochs")
    x_server = start(guest, driver, BusID=f"PCI:0:{device}:0")
    x_server.fill("#3060c0")

    picture, audit = guest.screenshot(), guest.audit()
    print(f"\n{guest.release}, Xorg with {driver}: {picture.width}x{picture.height}, {picture.colours()}")
    for file in x_server.device_files():
        print(f"  {file.path}: {file.size >> 10} KiB at {file.offset:#x}")
    for region in (guest.region(begin, end + 1 - begin), guest.region(0xA0000, 0x60000)):
        for each in on_region(audit, region):
            size = each.pages * 4
            print(f"  {each.start:#x}, {size} KiB: {each.memtype} = {each.effective}, {each.where}")
        for observation in {str(each): each for each in guest.observed(region)}.values():
            print(f"  seen: {observation} {observation.rule or ''}")
    print("  MTRRs:", *(f"{each.base:#x} {each.size >> 20} MiB {each.memtype}" for each in guest.mtrr_list()))
    print("  conflicts:", len(audit.conflicts))
    x_server.stop()
