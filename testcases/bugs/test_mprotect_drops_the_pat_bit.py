"""mprotect() changes the memory type of a mapping.

Reported and mended by Janusz Krzysztofik in 2023, "x86/mm: Fix PAT bit missing from page protection modify
mask", after glitches of graphics under Xen PV and failures of the test kms_pwrite_crc.

Symptom: a mapping whose type needs the PAT bit of the page table entry loses it; write-combining under Xen,
where it is encoded so, turns write-back. Here write-through would turn uncached.

Cause: _PAGE_CHG_MASK, the bits that pte_modify() keeps, had PCD and PWT but not PAT.

Fix: 548cb932051f, 6.6; in 6.1.55 and 5.10.197. This is a regression test: later kernels only are at hand.

Source: arch/x86/include/asm/pgtable_types.h.
"""

from __future__ import annotations

import pytest

from pytest_memtype import Guest, MemType, ProcessFault, Sighting

WT = MemType.WT

pytestmark = pytest.mark.bug(
    id="mprotect-pat-bit",
    title="mprotect() drops the PAT bit, and the mapping has another type",
    fixed="6.6",
    backports=("5.10.197", "6.1.55"),
    core="Process.mprotect",
)


def test_write_through_stays(guest: Guest, bug: Sighting) -> None:
    bar = guest.mmio(pages=2)
    process = guest.process("X")
    mapping = process.mmap(bar, WT).mapping
    assert mapping is not None
    registers = guest.registers()[0]

    assert process.mprotect(mapping, "r") == 0
    with pytest.raises(ProcessFault):
        process.write(mapping, page=0)
    read_only = process.page_table(mapping, registers)
    assert process.mprotect(mapping, "rw") == 0
    process.write(mapping, page=0)
    child = process.fork("child")

    seen = {*read_only, *process.page_table(mapping, registers), *child.page_table(mapping, registers)}
    bug.harm(seen != {WT}, f"mapped WT; after mprotect() and in a child {', '.join(map(str, seen))}")
