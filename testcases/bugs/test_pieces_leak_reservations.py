"""Pieces of device memory that a driver maps, each as if it were all, stay reserved for ever.

Found here, on the way from the report of ``pieces-of-one-mapping``: the same driver with device memory
instead of RAM, on the kernels before.

Symptom: ``x86/PAT: mpi:81 freeing invalid memtype [mem 0xfd000000-0xfd003fff]`` when the process unmaps them,
and from then on nobody can map the memory with another type.

Cause: remap_pfn_range() reserves what fills the VMA, so the driver that moves the VMA's bounds to each piece
has a reservation for each. untrack_pfn() takes the first page's address and the VMA's size for the one that
there is, and finds none of that size.

Fix: the series "mm: rewrite pfnmap tracking and remove VM_PAT", 6.16-rc1, which refuses the second piece.

Source: arch/x86/mm/pat/memtype.c, track_pfn_remap() and untrack_pfn(), as of 6.1.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_memtype import Guest, MemType, Sighting

pytestmark = pytest.mark.bug(
    id="pieces-leak",
    title="pieces of device memory that a driver maps, each as if it were all, stay reserved for ever",
    fixed="6.16",
    core="Process.mmap",
    kind="observed",
)


def test_two_pieces_of_device_memory(guest: Guest, bug: Sighting, load: Callable[..., object]) -> None:
    bar = guest.mmio(pages=4)
    load("halves.c", first=f"{bar.start:#x}", second=f"{bar[2].start:#x}")
    process = guest.process("mpi")
    outcome = process.mmap(via="/dev/halves", size="16K")
    if outcome.mapping is not None:
        assert outcome.granted is MemType.UC_MINUS
        assert process.munmap(outcome.mapping) == 0
    process.exit()

    left = guest.memtype_list(bar)
    bug.harm(left != (), f"nobody maps {bar}, and reserved are {', '.join(map(str, left)) or 'none'}")
    assert [each.owner for each in guest.tracked() if each.pid] == []
