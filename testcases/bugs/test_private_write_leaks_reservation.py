"""The reservation of a private mapping stays for ever after its first page was written.

Reported as CVE-2024-35877, found by Wupeng Ma and mended by David Hildenbrand in April 2024.

Symptom: a WARNING in untrack_pfn() at munmap(), and an entry of ``pat_memtype_list`` that belongs to
nobody.

Cause: the type and address of the reservation were read from the first page's entry, which is a copy in RAM
after a write to a private mapping.

Fix: 04c35ab3bdae "x86/mm/pat: fix VM_PAT handling in COW mappings", 6.9-rc3; in 6.1.85 and 5.10.216. This
is a regression test: later kernels only are at hand. What became of fork() is
test_fork_frees_the_parents_reservation.py.

Source: arch/x86/mm/pat/memtype.c, untrack_pfn(); mm/memory.c, follow_phys().
"""

from __future__ import annotations

import pytest

from pytest_memtype import Guest, MemType, Sighting

pytestmark = pytest.mark.bug(
    id="private-write-leak",
    title="the reservation of a private mapping stays after its first page was written",
    fixed="6.9",
    backports=("5.10.216", "6.1.85"),
    core="Process.write",
)


@pytest.mark.parametrize("via", ["devmem", "sysfs", "driver"])
def test_unmapped(guest: Guest, bug: Sighting, via: str) -> None:
    bar = guest.mmio(pages=4)
    process = guest.process("X")
    mapping = process.mmap(bar, MemType.UC_MINUS, via=via, private=True).mapping
    assert mapping is not None
    assert [each.region for each in guest.memtype_list(bar)] == [bar]
    process.write(mapping, page=0)
    assert process.physical(mapping, page=0) != bar.start

    assert process.munmap(mapping) == 0

    left = guest.memtype_list(bar)
    said = [line for line in guest.log if "freeing invalid memtype" in line]
    bug.harm(
        left != () or said != [],
        f"nobody maps {bar}; reserved are {', '.join(map(str, left)) or 'none'}; log: {said}",
    )
