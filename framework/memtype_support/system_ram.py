"""How much RAM a guest's kernel has."""

from __future__ import annotations

import re

from pytest_memtype import Guest


def ram_pages(guest: Guest) -> int:
    """Whole pages of System RAM, which are all in the direct map.

    Source: Linux, arch/x86/mm/init.c, ``init_mem_mapping()`` (5.10 to 7.3).
    """
    iomem = guest.shell("cat /proc/iomem").output
    ranges = re.findall(r"^([0-9a-f]+)-([0-9a-f]+) : System RAM$", iomem, re.MULTILINE)
    assert ranges
    return sum((int(last, 16) + 1 >> 12) - (int(first, 16) + 4095 >> 12) for first, last in ranges)
