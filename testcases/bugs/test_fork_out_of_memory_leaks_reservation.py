"""fork() runs out of memory while it copies page tables, and a reservation stays for ever.

Reported by syzbot as "WARNING in untrack_pfn" (e1a4f80c370d2381e49f, 2018; 5f488e922d047d8f00cc) and by Ma
Wupeng in February 2023.

Symptom: ``WARNING ... get_pat_info`` below untrack_pfn() and exit_mmap(), and an entry of
``pat_memtype_list`` that belongs to nobody.

Cause: track_pfn_copy() reserved the memory for the child, then no page for a page table could be had. The
half-made child's VMA has VM_PAT, but its page table has nothing to read the type and address from, so
untrack_pfn() gives up.

Fix: dc84bc2aba85, 6.15-rc1; in 6.12.25 and 6.1.162. (d155df53f310, 6.4, only silenced the warning.) 5.10
never got it, although backports were posted in April 2024 and December 2025.

Source: arch/x86/mm/pat/memtype.c, untrack_pfn(); VM_PAT came with b3b9c2932c32 (3.7). Reports came from
kernels with fault injection; here pte_alloc_one() fails instead, each of its calls in turn, and on 5.10 there
is a limit on the kernel's memory, too, raised page by page.
"""

from __future__ import annotations

import errno

import pytest

from pytest_memtype import Guest, MemType, Sighting

pytestmark = pytest.mark.bug(
    id="fork-oom-leak",
    title="fork() runs out of memory while it copies page tables, and a reservation stays for ever",
    introduced="3.7",
    fixed="6.15",
    backports=("6.12.25", "6.1.162"),
    core="Process.fork",
)

MOST = 40
"""Page tables that the agent's small process has, and more."""


@pytest.mark.needs_config("KPROBES")
def test_each_page_table_in_turn(guest: Guest, bug: Sighting) -> None:
    bar = guest.mmio(pages=4)
    parent = guest.process("parent")
    assert parent.mmap(bar, MemType.UC_MINUS, via="sysfs").kernel.accepted
    before = guest.memtype_list(bar)
    bug.expect_report("get_pat_info")

    failed = 0
    for after in range(MOST):
        with guest.faults.fail("pte_alloc_one", task=parent, after=after) as fault:
            try:
                child = parent.fork(f"child-{after}")
            except OSError as error:
                failed += error.errno == errno.ENOMEM
            else:
                assert fault.counts.failed == 0
                child.exit()
                break
    else:
        pytest.fail(f"fork() allocates more than {MOST} page tables")
    assert failed > 0
    parent.exit()

    left = guest.memtype_list(bar)
    assert len(before) == 1
    bug.harm(
        left != (),
        f"after {failed} forks that failed, nobody maps {bar}; reserved are "
        f"{', '.join(map(str, left)) or 'none'}",
    )


def test_limit_on_the_kernels_memory(guest: Guest, bug: Sighting) -> None:
    # A limit on all memory would end in the OOM killer, which takes the process and its page tables with it.
    if guest.version >= (5, 16):
        pytest.skip("from 5.16 on Linux has no limit on the kernel's memory alone (58056f77502f)")
    bar = guest.mmio(pages=4)
    parent = guest.process("parent")
    assert parent.mmap(bar, MemType.UC_MINUS, via="sysfs").kernel.accepted
    made = guest.shell(
        "mkdir /cgroup && mount -t cgroup -o memory none /cgroup && mkdir /cgroup/parent && "
        f"echo {parent.pid} > /cgroup/parent/cgroup.procs"
    )
    assert made.status == 0, made.output
    bug.expect_report("get_pat_info")

    # No further than to the first that stays behind: a fork() that works leaves a child without the memory
    # for its next page table, and 5.10 lets it fault for ever (pagefault_out_of_memory finds no victim).
    for kib in range(4, MOST * 4, 4):
        limit = guest.shell(f"echo {kib}K > /cgroup/parent/memory.kmem.limit_in_bytes")
        assert limit.status == 0, limit.output
        with pytest.raises(OSError, match=rf"\[Errno {errno.ENOMEM}\]"):
            parent.fork(f"child-{kib}")
        if len(guest.memtype_list(bar)) > 1:
            break
    parent.exit()

    left = guest.memtype_list(bar)
    bug.harm(
        left != (),
        f"after a fork() with {kib} KiB for the kernel, nobody maps {bar}; reserved are "
        f"{', '.join(map(str, left)) or 'none'}",
    )
