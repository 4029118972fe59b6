"""Pages that a driver inserts one by one are tracked by nobody: another type may come beside them.

Not reported as a bug: seen by this project on every kernel from 5.10 to 7.3.

Symptom: none, and no line in the log. One process has the memory uncached, another write-combining.

Cause: vmf_insert_pfn() looks up the type of the page and reserves nothing; UC- if nobody has it. A later
mapping of a whole VMA finds no reservation in its way.

Fix: none known.

Source: mm/memory.c, vmf_insert_pfn_prot(); arch/x86/mm/pat/memtype.c, track_pfn_insert(), since 6.16
pfnmap_setup_cachemode().
"""

from __future__ import annotations

import pytest

from pytest_memtype import Guest, MemType, Sighting

WC = MemType.WC

pytestmark = pytest.mark.bug(
    id="insert-pfn-untracked",
    title="pages that a driver inserts one by one are tracked by nobody",
    core="Process.write",
    kind="observed",
)


def test_two_processes(guest: Guest, bug: Sighting) -> None:
    bar = guest.mmio(pages=4)
    process, other = guest.process("X"), guest.process("Y")
    touched = process.mmap(bar, WC, via="insert_pfn").mapping
    assert touched is not None
    process.write(touched, page=0)

    second = other.mmap(bar, WC, via="sysfs").mapping

    assert second is not None
    bug.alias((process, touched), (other, second))
