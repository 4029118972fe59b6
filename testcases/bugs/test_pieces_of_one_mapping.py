"""A driver that fills one mapping with several pieces of memory, as if each were all of it, gets EINVAL.

Reported by users of Omni-Path cards in 2026 (cornelisnetworks/opa-psm2, issue 74): MPI doesn't start on
vanilla 6.16 and later, while it did before.

Symptom: mmap() of the card's eager buffers fails, EINVAL.

Cause: dma_mmap_coherent() wants memory that fills the VMA, so hfi1_file_mmap() moves ``vm_start`` and
``vm_end`` to each of the buffers before it maps that, and back in the end. Since f8e97613fed2 (6.16-rc1)
remap_pfn_range() keeps a context in the VMA for what fills it, and answers EINVAL when there is one already:
remap_pfn_range_track(). What it maps is no matter: RAM, which isn't tracked, as well as device memory.

Fix: none is known, up to 7.0-rc5. A driver gives each piece's own address, and leaves the VMA as it is.

Source: drivers/infiniband/hw/hfi1/file_ops.c, RCV_EGRBUF; mm/memory.c.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_memtype import Guest, MemType, Sighting

pytestmark = pytest.mark.bug(
    id="pieces-of-one-mapping",
    title="a mapping that a driver fills with several pieces, each as if it were all, is EINVAL",
    introduced="6.16",
    core="Process.mmap",
)

UC_MINUS = MemType.UC_MINUS
EINVAL = 22


def kept_of_processes(guest: Guest) -> list[str]:
    return [each.owner for each in guest.tracked() if each.pid]


def test_two_buffers(guest: Guest, bug: Sighting, load: Callable[..., object]) -> None:
    load("halves.c")
    process = guest.process("mpi")
    outcome = process.mmap(via="/dev/halves", size="16K")

    bug.harm(outcome.kernel.errno == EINVAL, f"mmap() of two buffers: {outcome.kernel}")
    if outcome.mapping is not None:
        # RAM keeps its type, whatever the driver asks for.
        assert outcome.granted is MemType.WB
        assert process.munmap(outcome.mapping) == 0
    assert kept_of_processes(guest) == []


def test_pieces_at_their_own_addresses(guest: Guest, load: Callable[..., object]) -> None:
    """On every kernel: a part of a VMA takes the type that is there, and nothing of it is kept."""
    bar = guest.mmio(pages=4)
    load("halves.c", first=f"{bar[2].start:#x}", second=f"{bar.start:#x}", moved="0")
    process = guest.process("mpi")
    outcome = process.mmap(via="/dev/halves", size="16K")

    assert outcome.mapping is not None
    assert outcome.granted is UC_MINUS
    assert [process.physical(outcome.mapping, page) for page in range(4)] == [
        bar[page].start for page in (2, 3, 0, 1)
    ]
    assert guest.memtype_list(bar) == ()
    assert process.munmap(outcome.mapping) == 0
    assert kept_of_processes(guest) == []
