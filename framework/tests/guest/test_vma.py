from __future__ import annotations

import pytest

from pytest_memtype import Region
from pytest_memtype.guest.vma import Vma, parse_maps

# What 6.1 printed for a process with one mapping of each kind, shortened.
MAPS = """\
00400000-00401000 r--p 00000000 00:02 12                                 /init
02a3b000-02a5d000 rw-p 00000000 00:00 0                                  [heap]
100000000000-100000004000 rw-s fd000000 00:05 86                         /dev/memtype
100000005000-100000006000 rw-p fd010000 00:05 86                         /dev/memtype
100000007000-100000009000 r--s fd020000 00:05 3                          /dev/mem
10000000a000-10000000b000 rw-s fd030000 00:14 7104  /sys/devices/pci0000:00/0000:00:01.0/resource0_wc
7fff6f9d1000-7fff6f9f2000 rw-p 00000000 00:00 0                          [stack]
"""


def test_device_memory_only() -> None:
    assert parse_maps(MAPS) == (
        Vma(0x100000000000, Region(0xFD000000, 4), "rw-s", "/dev/memtype"),
        Vma(0x100000005000, Region(0xFD010000, 1), "rw-p", "/dev/memtype"),
        Vma(0x100000007000, Region(0xFD020000, 2), "r--s", "/dev/mem"),
        Vma(
            0x10000000A000,
            Region(0xFD030000, 1),
            "rw-s",
            "/sys/devices/pci0000:00/0000:00:01.0/resource0_wc",
        ),
    )


def test_an_error_is_no_list() -> None:
    with pytest.raises(ValueError, match="unpack"):
        parse_maps("cat: can't open\n")
