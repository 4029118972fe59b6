"""A request for a range that holds pieces of two types fails, whatever it asks for.

Reported for VFIO with an NVIDIA card in 2022 (``CPU 0/KVM:148082 conflicting memory types
fe00000000-ff00000000 write-combining<->uncached-minus``, ``ioremap memtype_reserve failed -16``), for
gma500 ("Failure to map stolen base") and for pcimem (issue 16: a user's tool maps the BAR that a driver has
in two pieces).

Symptom: mmap() gives EINVAL, ioremap() NULL; both types are in the log.

Cause: the request takes the type of what overlaps it, and that is two types (memtype_check_conflict()).

Fix: none, Linux wants it so. Users touch the BAR first, or boot with nopat.

Source: arch/x86/mm/pat/memtype_interval.c.
"""

from __future__ import annotations

import errno

import pytest

from pytest_memtype import Guest, MemType, Sighting

WC, UC_MINUS = MemType.WC, MemType.UC_MINUS

pytestmark = pytest.mark.bug(
    id="mixed-overlap",
    title="a range that holds pieces of two types can't be mapped at all",
    core="Process.mmap",
    kind="by design",
)


@pytest.mark.parametrize("memtype", [WC, UC_MINUS], ids=lambda each: each.name)
def test_mmap_of_both_pieces(guest: Guest, bug: Sighting, memtype: MemType) -> None:
    bar = guest.mmio(pages=4)
    drm = guest.process("drm")
    assert drm.mmap(bar[:2], WC, via="sysfs").granted is WC
    assert drm.mmap(bar[2:], UC_MINUS, via="sysfs").granted is UC_MINUS

    both = guest.process("vfio").mmap(bar, memtype, via="sysfs")

    said = any("conflicting memory types" in line for line in both.kernel.log)
    bug.harm(both.kernel.errno == errno.EINVAL and said, f"mmap {memtype} of {bar}: {both.kernel}")
