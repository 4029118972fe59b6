"""fork() fails in a process that wrote to the first page of a private mapping of device memory.

Told by David Hildenbrand, 21 March 2025, in "x86/mm/pat: Fix VM_PAT handling when fork() fails in
copy_page_range()", as the way into that bug; the series of 6.16 counts it as cured.

Symptom: fork() gives ENOMEM, with memory enough.

Cause: the written page is a copy in RAM. Since 04c35ab3bdae (6.9) nobody takes its address for the device's
any more, so track_pfn_copy() can't find the type and gives up; dup_mmap() makes ENOMEM of it.

Fix: the series "mm: rewrite pfnmap tracking and remove VM_PAT", 6.16-rc1: the child shares its parent's
context and looks nothing up. It was not backported.

Source: arch/x86/mm/pat/memtype.c, get_pat_info() and track_pfn_copy(); kernel/fork.c, dup_mmap().
"""

from __future__ import annotations

import errno

import pytest

from pytest_memtype import Guest, MemType, Sighting

pytestmark = pytest.mark.bug(
    id="fork-fails",
    title="fork() fails after a write to a private mapping of device memory",
    introduced=("6.9", "6.1.85", "5.10.216"),
    fixed="6.16",
    core="Process.write",
)


@pytest.mark.needs_config("DEVMEM")
def test_fork(guest: Guest, bug: Sighting) -> None:
    bar = guest.mmio(pages=4)
    parent = guest.process("parent")
    mapping = parent.mmap(bar, MemType.UC_MINUS, via="devmem", private=True).mapping
    assert mapping is not None
    parent.write(mapping, page=0)
    assert parent.physical(mapping, page=0) != bar.start

    try:
        parent.fork("child")
    except OSError as error:
        bug.harm(error.errno == errno.ENOMEM, f"fork() failed with {errno.errorcode[error.errno or 0]}")
    else:
        bug.harm(False, "fork() worked")


@pytest.mark.needs_config("DEVMEM")
def test_fork_after_another_page(guest: Guest) -> None:
    """It is the first page alone that the type is looked up by."""
    bar = guest.mmio(pages=4)
    parent = guest.process("parent")
    mapping = parent.mmap(bar, MemType.UC_MINUS, via="devmem", private=True).mapping
    assert mapping is not None
    parent.write(mapping, page=1)
    assert parent.physical(mapping, page=1) != bar.addresses()[1]

    parent.fork("child")
