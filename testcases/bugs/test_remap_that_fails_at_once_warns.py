"""remap_pfn_range() that fails at its first page warns that nothing is mapped, in the middle of cleaning up.

Reported by syzbot as "WARNING in get_pat_info" (16b1da89309a06cd0e3a, 2024, by mmap() of a USB device) and by
chase xd in December 2024 (5.15.173, io_uring), both with fault injection.

Symptom: ``WARNING ... get_pat_info`` or ``untrack_pfn`` (6.1) below zap_page_range_single() and
remap_pfn_range(), once per boot; with panic_on_warn the machine stops. Any mmap() of device memory does so
for which there is no page table any more.

Cause: what a mapping that failed has mapped so far is taken away at once (79a61cc3fc04, CVE-2024-47674),
while its VMA has VM_PAT already. untrack_pfn() then looks for the type in a page table that is empty. The
reservation is freed behind that, by size and address: nothing is left.

Fix: the series "mm: rewrite pfnmap tracking and remove VM_PAT", 6.16-rc1, which keeps the reservation beside
the VMA. The stable series have the cause since September (5.10: November) 2024, and nothing of the fix.

A process without rights on a CPU with the L1TF bug comes there without any fault (testcases/test_l1tf.py).

Source: mm/memory.c, remap_pfn_range_notrack(), and arch/x86/mm/pat/memtype.c, untrack_pfn(), as of 6.12.
"""

from __future__ import annotations

import errno

import pytest

from pytest_memtype import Guest, MemType, Sighting

pytestmark = pytest.mark.bug(
    id="remap-fails-at-once",
    title="remap_pfn_range() that fails at its first page warns that nothing is mapped",
    introduced=("5.10.229", "5.15.168", "6.1.111", "6.6.52", "6.10.11", "6.11"),
    fixed="6.16",
    core="Process.mmap",
)

LIMIT = 1 << 43
"""Of what a process without rights may map without access, on a CPU for which Linux counts 44 bits."""


@pytest.mark.hardware(cpu="Skylake-Client-v1")
def test_first_page_beyond_the_limit(guest: Guest, bug: Sighting) -> None:
    region = guest.region(LIMIT, 4 * 4096)
    bug.expect_report("get_pat_info|untrack_pfn")
    outcome = guest.process("X", uid=1000).mmap(region, MemType.UC_MINUS, protection="")

    assert outcome.kernel.errno == errno.EACCES
    assert (outcome.granted, guest.memtype_list(region), guest.tracked(region)) == (None, (), ())
    said = [each.title for each in guest.reports()]
    bug.harm(said != [], f"a mapping of {region} is refused; the kernel said {'; '.join(said) or 'nothing'}")


@pytest.mark.needs_config("KPROBES")
def test_no_page_table_for_the_first_page(guest: Guest, bug: Sighting) -> None:
    """A BAR, by a file in sysfs: pci_mmap_resource_range() in drivers/pci/mmap.c."""
    bar = guest.mmio(pages=4)
    process = guest.process("X")
    bug.expect_report("get_pat_info|untrack_pfn")
    with guest.faults.fail("pte_alloc_one", task=process) as fault:
        outcome = process.mmap(bar, MemType.UC_MINUS, via="sysfs")
        assert (outcome.kernel.errno, fault.counts.failed) == (errno.ENOMEM, 1)

    assert (outcome.granted, guest.memtype_list(bar)) == (None, ())
    said = [each.title for each in guest.reports()]
    bug.harm(said != [], f"there is no page table for {bar}; the kernel said {'; '.join(said) or 'nothing'}")
