"""Which RAM Linux gives up under a layout, and that guests come up all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_memtype.errors import GuestError, GuestExited, GuestHung, GuestPanicked
from pytest_memtype.guest.guest import Guest
from pytest_memtype.host.progress import silent
from pytest_memtype.kernels.bundle import bundle
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.layout import Layout
from pytest_memtype.machine.layout_file import layout_files
from pytest_memtype.machine.uncovered import as_started, given_up, uncovered_ram
from pytest_memtype.run.boot import GuestPlan, booted
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import MtrrRange

UC, WB, WC, WP = MemType.UC, MemType.WB, MemType.WC, MemType.WP
MIB = 1 << 20


def layout(*ranges: tuple[int | str, int | str, MemType], default: MemType = UC) -> Layout:
    return Layout("mine", default=default, ranges=[MtrrRange(*each) for each in ranges])


# mtrr_trim_uncached_memory(), arch/x86/kernel/cpu/mtrr/cleanup.c, followed by hand.
@pytest.mark.parametrize(
    ("made", "memory", "lost"),
    [
        pytest.param(layout((0, "128M", WB)), "256M", [(128, 256)], id="top"),
        pytest.param(layout((0, "256M", WB)), "256M", [], id="all"),
        pytest.param(layout((0, "128M", WB)), "128M", [], id="less-ram"),
        pytest.param(layout((0, "128M", WB), default=WB), "256M", [], id="write-back-default"),
        pytest.param(layout((0, "128M", WB), default=WC), "256M", [], id="other-default"),
        pytest.param(layout(), "256M", [], id="no-ranges"),
        pytest.param(layout((0xC0000000, "1G", UC)), "256M", [], id="no-write-back"),
        pytest.param(layout((0, "128M", WB), (0xFD000000, "16M", WC)), "256M", [], id="a-third-type"),
        pytest.param(layout((0, "128M", WB), ("128M", "64M", WB)), "256M", [(192, 256)], id="neighbours"),
        pytest.param(layout((0, "256M", WB), ("64M", "32M", UC)), "256M", [(64, 96)], id="hole"),
        pytest.param(layout((0, "64M", WB), ("128M", "128M", WB)), "256M", [(64, 128)], id="gap"),
        pytest.param(layout((0, "256M", WB), (0, "512K", UC)), "256M", [], id="uncached-under-1M"),
        pytest.param(layout((0, "2G", WB)), "3G", [(4096, 5120)], id="above-4G"),
        pytest.param(
            layout((0, "2G", WB), ("4G", "512M", WB)), "3G", [(4096 + 512, 5120)], id="part-above-4G"
        ),
    ],
)
def test_ram_that_is_given_up(made: Layout, memory: str, lost: list[tuple[int, int]]) -> None:
    hardware = Hardware(memory=memory)
    assert given_up(made, hardware) == tuple((start * MIB, end * MIB) for start, end in lost)
    started = as_started(made, hardware)
    assert started.cmdline == ("nokaslr" if lost else "")
    assert bool(uncovered_ram(made, hardware)) is bool(lost)


def test_ram_below_the_first_range() -> None:
    """ "Check the head": what lies below all ranges is given up, but the VGA window and ROMs are no RAM."""
    made = layout(("64M", "64M", WB), ("128M", "128M", WB))
    assert given_up(made, Hardware()) == ((0, 0xA0000), (1 << 20, 64 * MIB))


def test_the_line_says_how_much_where_and_what_is_done() -> None:
    made = layout((0, "128M", WB))
    assert uncovered_ram(made, Hardware()) == (
        "layout 'mine' leaves 128M of RAM without write-back (8000000-fffffff), which Linux gives up; "
        "nokaslr is added, so that the kernel isn't put there"
    )
    # Who says it himself isn't told of it.
    assert uncovered_ram(made, Hardware(cmdline="quiet nokaslr")).endswith("which Linux gives up")


@pytest.mark.parametrize(
    "hardware", [Hardware(cpu="qemu64,-mtrr"), Hardware(cmdline="disable_mtrr_trim debug")]
)
def test_linux_that_doesnt_look(hardware: Hardware) -> None:
    made = layout((0, "128M", WB))
    assert given_up(made, hardware) == ()
    assert as_started(made, hardware) == hardware


def test_what_is_on_the_command_line_stays_first() -> None:
    assert as_started(layout((0, "128M", WB)), Hardware(cmdline="nopat")).cmdline == "nopat nokaslr"


def test_of_the_named_layouts_one_leaves_ram_uncovered() -> None:
    made = [each.layout for each in layout_files() if isinstance(each.layout, Layout)]
    assert [each.name for each in made if given_up(each, Hardware())] == ["ram-not-covered"]


def boot(made: Layout, hardware: Hardware, folder: Path, *, timeout: float = 120) -> Guest:
    kernel = bundle("debian:bookworm", progress=silent)
    plan = GuestPlan(kernel.image, kernel.initramfs, made, hardware)
    return booted(plan, logs=folder / "guest", timeout=timeout)


@pytest.mark.parametrize(
    ("made", "memory"),
    [
        pytest.param(layout((0, "128M", WB)), "256M", id="top"),
        pytest.param(layout((0, "256M", WB), ("96M", "32M", UC)), "256M", id="hole"),
        pytest.param(layout((0, "2G", WB), ("4G", "512M", WB)), "3G", id="above-4G"),
    ],
)
def test_guests_come_up_and_have_lost_what_was_foretold(made: Layout, memory: str, tmp_path: Path) -> None:
    hardware = Hardware(memory=memory)
    guest = boot(made, hardware, tmp_path)
    with guest.machine:
        lost = sum(end - start for start, end in given_up(made, hardware))
        said = guest.shell("dmesg | grep 'cover all of memory'").output
        # SeaBIOS has reserved the last of the RAM below 4 GiB for its tables.
        assert any(f"losing {lost // MIB - less}MB of RAM" in said for less in (0, 1)), said
        assert "nokaslr" in guest.shell("cat /proc/cmdline").output.split()


def test_a_boot_that_fails_names_the_cause(tmp_path: Path) -> None:
    """Nothing helps a kernel that has lost all RAM from its first byte on (CONFIG_PHYSICAL_START, 16 MiB)."""
    with pytest.raises((GuestHung, GuestExited, GuestPanicked)) as caught:
        boot(layout((0, "16M", WB)), Hardware(), tmp_path, timeout=20)
    error: GuestError = caught.value
    assert "layout 'mine' leaves 240M of RAM without write-back (1000000-fffffff)" in error.message
    assert "\n" not in error.message
