"""PROT_NONE on a CPU with the L1TF bug: a mapping that the kernel gives up half-way, and what is left of it.

Such an entry isn't present, and the CPU may read ahead what it points to. Linux inverts its address, so that
it points above all RAM. A frame whose inverted address would lie below is refused to who has no CAP_SYS_ADMIN
(arch/x86/mm/mmap.c, pfn_modify_allowed(), 5.10 to 7.3), page by page: remap_pfn_range() has filled the pages
before, and its caller takes them away again.

The limit is half of what the caches can address: l1tf_pfn_limit() in arch/x86/include/asm/processor.h. On a
Skylake that is 2^43 whatever the width of the guest's addresses, since Linux counts 44 bits there
(override_cache_bits() in arch/x86/kernel/cpu/bugs.c). For the verifier frames beyond the guest's 40 bits are
malformed; it only watches.
"""

from __future__ import annotations

import errno

import pytest

from pytest_memtype import Guest, MemType, Region

UC_MINUS = MemType.UC_MINUS

LIMIT = 1 << 43
PAGE = 4096

WITH_THE_BUG = pytest.mark.hardware(cpu="Skylake-Client-v1")

pytestmark = [pytest.mark.layout("firmware"), pytest.mark.needs_module]


def listed(guest: Guest, region: Region) -> list[tuple[Region, MemType]]:
    return [(entry.region, entry.memtype) for entry in guest.memtype_list(region)]


@WITH_THE_BUG
@pytest.mark.parametrize("below", [1, 2, 3])
def test_what_lies_beyond_is_refused_and_nothing_is_left(guest: Guest, below: int) -> None:
    """That none lies below is the bug ``remap-fails-at-once``."""
    region = guest.region(LIMIT - below * PAGE, 4 * PAGE)
    process = guest.process("X", uid=1000)
    outcome = process.mmap(region, UC_MINUS, protection="")

    assert (outcome.verdict.rule, outcome.kernel.errno) == ("malformed", errno.EACCES)
    assert (outcome.granted, outcome.mapping) == (None, None)
    assert (listed(guest, region), guest.tracked(region)) == ([], ())
    assert process.vmas() == ()


@WITH_THE_BUG
def test_what_lies_below_is_mapped(guest: Guest) -> None:
    region = guest.region(LIMIT - 4 * PAGE, 4 * PAGE)
    process = guest.process("X", uid=1000)
    outcome = process.mmap(region, UC_MINUS, protection="")

    assert (outcome.kernel.accepted, outcome.granted) == (True, UC_MINUS)
    assert outcome.mapping is not None
    assert [process.physical(outcome.mapping, page) for page in (0, 3)] == [region.start, LIMIT - PAGE]
    assert listed(guest, region) == [(region, UC_MINUS)]
    assert process.munmap(outcome.mapping).accepted
    assert listed(guest, region) == []


@WITH_THE_BUG
def test_root_may_and_so_may_who_asks_for_access(guest: Guest) -> None:
    """An entry that is present says what the CPU may read."""
    region = guest.region(LIMIT - 2 * PAGE, 4 * PAGE)
    for uid, protection in ((0, ""), (1000, "r")):
        process = guest.process(f"X{uid}", uid=uid)
        outcome = process.mmap(region, UC_MINUS, protection=protection)
        assert (outcome.kernel.accepted, outcome.granted) == (True, UC_MINUS)
        assert listed(guest, region) == [(region, UC_MINUS)]
        process.exit()
        assert listed(guest, region) == []


@WITH_THE_BUG
def test_mprotect_to_nothing_is_refused_likewise(guest: Guest) -> None:
    """prot_none_walk() in mm/mprotect.c looks before anything is changed, so that all stays as it was."""
    region = guest.region(LIMIT - 2 * PAGE, 4 * PAGE)
    process = guest.process("X", uid=1000)
    mapping = process.mmap(region, UC_MINUS, protection="r").mapping
    assert mapping is not None
    answer = process.mprotect(mapping, "")

    assert answer.errno == errno.EACCES
    assert process.page_table(mapping, guest.registers()[0]) == (UC_MINUS,) * 4
    assert listed(guest, region) == [(region, UC_MINUS)]


@pytest.mark.hardware(cpu="EPYC-v1")
def test_a_cpu_without_the_bug_has_no_limit(guest: Guest) -> None:
    region = guest.region(LIMIT - 2 * PAGE, 4 * PAGE)
    outcome = guest.process("X", uid=1000).mmap(region, UC_MINUS, protection="")

    assert (outcome.kernel.accepted, outcome.granted) == (True, UC_MINUS)
    assert listed(guest, region) == [(region, UC_MINUS)]
