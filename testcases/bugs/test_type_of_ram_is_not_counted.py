"""Two drivers can't have the same RAM uncached, not even the same way.

Reported for radeon with ACPI in 2010: ``reserve_ram_pages_type failed 0x100000000-0x100001000, track 0x10,
req 0x10``, ``ioremap reserve_memtype failed -16``, "ACPI Error: Could not map memory".

Symptom: the second set_memory_uc() gives -EBUSY, although it asks for what is there.

Cause: the type of RAM is two page flags, without a count: a page that isn't write-back is somebody's
(reserve_ram_pages_type()).

Fix: none, Linux wants it so.

Source: arch/x86/mm/pat/memtype.c.
"""

from __future__ import annotations

import errno

import pytest

from pytest_memtype import Guest, MemType, Sighting

pytestmark = pytest.mark.bug(
    id="ram-not-counted",
    title="two drivers can't have the same RAM uncached, not even the same way",
    core="Driver.set_memory",
    kind="by design",
)


@pytest.mark.parametrize("memtype", [MemType.UC_MINUS, MemType.WC], ids=lambda each: each.name)
def test_second_request(guest: Guest, bug: Sighting, memtype: MemType) -> None:
    ram = guest.ram(pages=1)
    first = guest.driver("radeon").set_memory(ram, memtype)
    assert first.granted is memtype

    second = guest.driver("acpi").set_memory(ram, memtype)

    said = [line for line in second.kernel.log if "reserve_ram_pages_type failed" in line]
    bug.harm(second.kernel.errno == errno.EBUSY and said != [], f"{memtype} twice: {second.kernel}: {said}")
