"""A fork() that fails frees the reservation of the parent, whose mapping stays: the next one is an alias.

Reported as ``WARNING ... get_pat_info`` by xingwei lee and yuxin wang in August 2024 and by Marius
Fleischer; explained and fixed by David Hildenbrand, 21 March 2025 ("x86/mm/pat: Fix VM_PAT handling when
fork() fails in copy_page_range()").

Symptom: fork() gives ENOMEM, ``/sys/kernel/debug/x86/pat_memtype_list`` lacks memory that is mapped, and
another process may map it write-combining beside the uncached mapping. At exit ``freeing invalid memtype``.

Cause: the first page of a private mapping was written, so it is a copy in RAM, and the type of the device's
memory can't be read from it any more (04c35ab3bdae, 6.9). track_pfn_copy() fails, but the half-made child's
VMA still has VM_PAT; tearing it down calls untrack_pfn(), which finds the parent's reservation by vm_pgoff.

Fix: dc84bc2aba85, 6.15-rc1; in 6.12.25 and 6.1.162. 5.10 never got it.

Source: arch/x86/mm/pat/memtype.c, track_pfn_copy() and untrack_pfn(); reproducer "pat_fork.c" of the mail.
What happens before 04c35ab3bdae was not tried.
"""

from __future__ import annotations

from contextlib import suppress

import pytest

from pytest_memtype import Guest, MemType, Sighting

WC, UC_MINUS = MemType.WC, MemType.UC_MINUS

pytestmark = pytest.mark.bug(
    id="fork-frees-parents",
    title="a fork() that fails frees the reservation of the parent",
    introduced=("6.9", "6.1.85", "5.10.216"),
    fixed="6.15",
    backports=("6.12.25", "6.1.162"),
    core="Process.write",
)


@pytest.mark.needs_config("DEVMEM")
def test_reservation_of_the_parent(guest: Guest, bug: Sighting) -> None:
    bar = guest.mmio(pages=4)
    parent = guest.process("parent")
    mapping = parent.mmap(bar, UC_MINUS, via="devmem", private=True).mapping
    assert mapping is not None
    parent.write(mapping, page=0)
    assert parent.physical(mapping, page=0) != bar.start

    # It works since 6.16 only; test_fork_fails_after_a_private_write.py is about that.
    with suppress(OSError):
        parent.fork("child")

    reserved = guest.memtype_list(bar)
    bug.harm(reserved == (), f"{bar} is mapped, and reserved are {', '.join(map(str, reserved)) or 'none'}")
    other = guest.process("other")
    second = other.mmap(bar, WC, via="sysfs").mapping
    assert second is not None
    bug.alias((parent, mapping, 1), (other, second, 1))
