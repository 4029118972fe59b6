"""The page in front of an uncached mapping can't be mapped write-combining.

Reported as slowness by Kenneth Crudup, Mariusz Ceier and the kernel test robot, November and December 2019.

Symptom: graphics many times slower; ``pat_memtype_list`` shows a frame buffer uncached-minus.

Cause: off by one: the new interval tree's ranges include their last byte, and its users passed the end, so
that a range that only touches another one overlapped it (8d04a5f97a5f, during the 5.5 cycle).

Fix: 91298f1a302d "x86/mm/pat: Fix off-by-one bugs in interval tree search", 5.5-rc1: no release has the
bug. This is a regression test.

Source: arch/x86/mm/pat_interval.c.
"""

from __future__ import annotations

import pytest

from pytest_memtype import Guest, MemType, Sighting

WC, UC_MINUS = MemType.WC, MemType.UC_MINUS

pytestmark = pytest.mark.bug(
    id="neighbour-decides",
    title="the page in front of an uncached mapping can't be mapped write-combining",
    introduced="5.5",
    fixed="5.5",
    core="Driver.ioremap",
)


@pytest.mark.parametrize("page", [0, 2], ids=["in front", "behind"])
def test_neighbour(guest: Guest, bug: Sighting, page: int) -> None:
    bar = guest.mmio(pages=3)
    assert guest.driver("X").ioremap(bar[1], UC_MINUS).granted is UC_MINUS

    neighbour = guest.driver("Y").ioremap(bar[page], WC)

    assert neighbour.kernel.accepted
    bug.harm(neighbour.granted is not WC, f"asked for WC beside UC-, got {neighbour.granted}")
