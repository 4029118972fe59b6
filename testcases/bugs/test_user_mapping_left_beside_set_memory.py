"""set_memory_uc() makes RAM uncached for the kernel, and a process still has it write-back.

Not reported as a bug: seen by this project on every kernel from 5.10 to 7.3.

Symptom: none. set_memory_uc() returns 0.

Cause: change_page_attr() changes the kernel's direct map. Nobody knows of the mappings that processes have
of RAM: its type is kept in two page flags, without a count.

Fix: none known.

Source: arch/x86/mm/pat/set_memory.c, set_memory_uc(), and memtype.c, reserve_ram_pages_type().
"""

from __future__ import annotations

import pytest

from pytest_memtype import Guest, MemType, Sighting

pytestmark = pytest.mark.bug(
    id="set-memory-alias",
    title="set_memory_uc() leaves the mappings that processes have of the RAM write-back",
    core="Driver.set_memory",
    kind="observed",
)


@pytest.mark.parametrize("memtype", [MemType.UC_MINUS, MemType.WC], ids=lambda each: each.name)
def test_process_keeps_write_back(guest: Guest, bug: Sighting, memtype: MemType) -> None:
    ram = guest.ram(pages=1)
    process, driver = guest.process("X"), guest.driver("agp")
    mapping = process.mmap(ram, MemType.WB).mapping
    assert mapping is not None

    changed = driver.set_memory(ram, memtype)

    assert changed.verdict.rule == "ram-not-wb"
    assert changed.kernel.accepted
    assert changed.mapping is not None
    bug.alias((process, mapping), (driver, changed.mapping))
