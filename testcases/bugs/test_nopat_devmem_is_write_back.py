"""Without PAT, /dev/mem opened with O_SYNC maps device memory write-back.

Nobody is known to have reported it: seen by this project with 6.16.3 and later, also with a CPU that has no
PAT.

Symptom: none under emulation; on real hardware an MTRR usually makes the memory uncached all the same.
Where it doesn't, a tool that pokes registers through /dev/mem reads and writes a cache.

Cause: 1b3f2bd04d90 "x86/devmem: Remove duplicate range_is_allowed() definition" (6.16-rc1) returns early
when PAT is off, in front of the lines that turn O_SYNC into uncached. Its mail says that the function has
no say in caching any more; without PAT it has.

Fix: none known, up to 7.3.

Source: arch/x86/mm/pat/memtype.c, phys_mem_access_prot_allowed().
"""

from __future__ import annotations

import pytest

from pytest_memtype import Guest, MemType, Sighting

UC_MINUS = MemType.UC_MINUS

pytestmark = [
    pytest.mark.hardware(cmdline="nopat"),
    pytest.mark.needs_config("DEVMEM"),
    pytest.mark.bug(
        id="nopat-devmem",
        title="without PAT, /dev/mem opened with O_SYNC maps device memory write-back",
        introduced="6.16",
        core="Process.mmap",
        kind="observed",
    ),
]


def test_beside_the_file_of_sysfs(guest: Guest, bug: Sighting) -> None:
    bar = guest.mmio(pages=4)
    tool, server = guest.process("pcimem"), guest.process("X server")

    synchronous = tool.mmap(bar, UC_MINUS, via="devmem").mapping
    uncached = server.mmap(bar, UC_MINUS, via="sysfs").mapping

    assert synchronous is not None
    assert uncached is not None
    bug.alias((tool, synchronous), (server, uncached))
