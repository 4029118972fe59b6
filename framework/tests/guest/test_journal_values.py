from __future__ import annotations

import pytest

from pytest_memtype import Hardware, Layout, ListEntry, MemType, MtrrRange, Region
from pytest_memtype.guest.journal_values import listed, mtrr_type, pat_text, type_or_errno
from pytest_memtype.guest.region import together
from pytest_memtype.x86.pat import LINUX_PAT, decode

LAYOUT = Layout("two-types", default=MemType.UC, ranges=[MtrrRange(0, "256M", MemType.WB)])


def test_pat_text() -> None:
    assert pat_text(decode(LINUX_PAT)) == "PAT WB WC UC- UC WB WP UC- WT"


def test_listed() -> None:
    assert listed([ListEntry(Region(0xFD000000, 4), MemType.UC_MINUS)]) == [[0xFD000000, 4, "UC-"]]


def test_type_or_errno() -> None:
    assert type_or_errno(MemType.WC, 0) == "WC"
    assert type_or_errno(None, 16) == "EBUSY"


@pytest.mark.parametrize(
    ("region", "memtype"),
    [
        (Region(0x1000000, 4), "WB"),
        (Region(0xFD000000, 4), "UC"),
        (Region(0xFFFF000, 2), None),
        (Region(1 << 50, 1), None),
    ],
    ids=["RAM", "device", "over the border", "beyond the CPU's addresses"],
)
def test_mtrr_type(region: Region, memtype: str | None) -> None:
    assert mtrr_type(LAYOUT, Hardware(), region) == memtype
    assert mtrr_type(LAYOUT, Hardware(cpu="qemu64,-mtrr"), region) is None


@pytest.mark.parametrize("order", [1, -1])
def test_mtrr_type_of_several_pieces(order: int) -> None:
    """None where one piece has another type than the next, in any order; the memory in between counts not."""
    first, last = Region(0x1000000, 1), Region(0xFFFF000, 1)
    assert mtrr_type(LAYOUT, Hardware(), together([first, last][::order])) == "WB"
    assert mtrr_type(LAYOUT, Hardware(), together([first, Region(0xFD000000, 1)][::order])) is None
    assert mtrr_type(LAYOUT, Hardware(), together([first, Region(1 << 50, 1)][::order])) is None
    holed = together([Region(0xFD000000, 1), Region(0xFD002000, 1)][::order])
    assert mtrr_type(LAYOUT, Hardware(), holed) == "UC"


def test_mtrr_type_without_a_layout_is_the_firmware_s() -> None:
    """OVMF makes memory from 2 GiB on UC, SeaBIOS from 3 GiB on."""
    window = Region(2 << 30, 1)
    assert mtrr_type(Layout("firmware"), Hardware(), window) == "WB"
    assert mtrr_type(Layout("firmware"), Hardware(firmware="ovmf"), window) == "UC"
    # How far down it goes depends on the RAM.
    assert mtrr_type(Layout("firmware"), Hardware(firmware="ovmf", memory="2304M"), window) == "WB"
    kept = Layout("own", default=MemType.WB)
    option_rom = Region(0xC0000, 1)
    assert mtrr_type(kept, Hardware(), option_rom) == "WP"
    assert mtrr_type(kept, Hardware(firmware="ovmf"), option_rom) == "UC"
