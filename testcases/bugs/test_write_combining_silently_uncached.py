"""Who asks for write-combining silently gets uncached, and pixels come tens of times slower.

Reported as slowness by Kenneth Crudup, Mariusz Ceier and the kernel test robot in November and December
2019. What they had was an off-by-one in the new interval tree (test_neighbour_decides_the_type.py); that a
downgrade says nothing was Ingo Molnar's remark in 91298f1a302d, and is so to this day.

Symptom: none but the speed. mmap() of ``resource0_wc`` succeeds.

Cause: a request for WC accepts UC- if that is what the memory has (is_new_memtype_allowed()).

Fix: none, Linux wants it so.

Source: arch/x86/include/asm/pgtable.h, is_new_memtype_allowed().
"""

from __future__ import annotations

import pytest

from pytest_memtype import Guest, MemType, Sighting

WC, UC_MINUS = MemType.WC, MemType.UC_MINUS

pytestmark = pytest.mark.bug(
    id="silent-downgrade",
    title="who asks for write-combining silently gets uncached",
    core="Process.mmap",
    kind="by design",
)


def test_second_of_two_files(guest: Guest, bug: Sighting) -> None:
    bar = guest.mmio(pages=4)
    assert guest.process("X").mmap(bar, UC_MINUS, via="sysfs").granted is UC_MINUS

    second = guest.process("Y").mmap(bar, WC, via="sysfs")

    assert second.kernel.accepted
    silent = second.granted is UC_MINUS and second.kernel.log == ()
    bug.harm(silent, f"asked for WC, got {second.granted}; log: {list(second.kernel.log)}")
