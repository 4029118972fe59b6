"""The less usual ways to map: private, a part of a VMA, page by page, and taken away again.

"Rules" is as in test_multi_driver.py, section 2.4 where it says nothing else: Linux looks up and reserves
the type of a mapping when ``remap_pfn_range()`` fills a whole VMA. In all other cases it only looks: what it
finds goes into the page table, UC- when it finds nothing, whatever was asked for.
"""

from __future__ import annotations

import errno

import pytest

from pytest_memtype import Guest, MemType, Outcome, Process, ProcessFault, Region
from pytest_memtype.errors import AgentError, UsageError
from pytest_memtype.guest.outcome import Mapping

UC, UC_MINUS, WC, WT, WB = MemType.UC, MemType.UC_MINUS, MemType.WC, MemType.WT, MemType.WB

pytestmark = [pytest.mark.layout("firmware"), pytest.mark.usefixtures("nothing_is_left")]

SIGBUS = 7


def counts_once(guest: Guest) -> bool:
    """Does one reservation serve all that becomes of a mapping? Since 6.16 (rules, 2.5)."""
    return guest.version >= (6, 16)


def mapping_of(outcome: Outcome) -> Mapping:
    assert outcome.kernel.accepted
    assert outcome.mapping is not None
    return outcome.mapping


def types(guest: Guest, process: Process, mapping: Mapping) -> tuple[MemType | None, ...]:
    return process.page_table(mapping, guest.registers()[0])


def tracked(guest: Guest, region: Region) -> list[tuple[str, Region, MemType]]:
    found = [(each.owner, each.region, each.memtype) for each in guest.tracked(region)]
    return sorted(found, key=lambda record: (record[1].start, record[0]))


def listed(guest: Guest, region: Region) -> list[tuple[Region, MemType]]:
    return [(entry.region, entry.memtype) for entry in guest.memtype_list(region)]


@pytest.mark.parametrize(
    ("via", "memtype", "granted"),
    [
        ("driver", UC_MINUS, UC_MINUS),
        ("driver", WC, WC),
        ("sysfs", WC, WC),
        ("devmem", UC_MINUS, UC_MINUS),
        ("devmem", WB, UC_MINUS),
    ],
)
def test_private_page_that_was_written(guest: Guest, via: str, memtype: MemType, granted: MemType) -> None:
    """The process has a copy in RAM in place of the device's page; the VMA, and so the record, stays.

    The copy gets the type that was asked for, since its entry is made from ``vm_page_prot`` (wp_page_copy()
    in mm/memory.c, 5.10 to 7.3): RAM that the kernel's direct map has write-back is mapped uncached or
    write-combining here, against rule 1, and neither the verifier nor Linux is asked.
    """
    bar = guest.mmio(pages=4)
    process, other = guest.process("X"), guest.process("Y")
    shared = mapping_of(other.mmap(bar, WC)) if memtype is WC else None
    mapping = mapping_of(process.mmap(bar, memtype, via=via, private=True))
    before = listed(guest, bar)

    process.write(mapping, page=1, value=0xC0FFEE)

    assert process.read(mapping, page=1) == 0xC0FFEE
    assert types(guest, process, mapping) == (granted, memtype, granted, granted)
    assert process.physical(mapping, page=0) == bar.start
    address = process.physical(mapping, page=1)
    assert address is not None
    copy = guest.region(address, 4096)
    assert not copy.overlaps(bar)
    if memtype is not WB:
        # A page with a struct page: the verifier would have refused.
        assert guest.verify(copy, memtype, kind="user").rule == "ram-not-wb"
    if shared is not None:
        assert other.read(shared, page=1) == 0
    owners = ["X"] if shared is None else ["X", "Y"]
    assert [each[0] for each in tracked(guest, bar)] == owners
    assert all(region == bar for _, region, _ in tracked(guest, bar))
    assert listed(guest, bar) == before
    process.exit()
    other.exit()
    assert tracked(guest, bar) == []
    # Regression test of rules, 2.5: the copy doesn't keep the reservation from being found again.
    assert listed(guest, bar) == []
    assert not any("freeing invalid memtype" in line for line in guest.log)


@pytest.mark.parametrize("memtype", [WC, UC_MINUS, UC, WT], ids=lambda memtype: memtype.name)
def test_part_of_a_vma_alone(guest: Guest, memtype: MemType) -> None:
    """The verifier counts the part; Linux reserves nothing and makes it UC-."""
    bar = guest.mmio(pages=4)
    process = guest.process("X")

    outcome = process.mmap(bar, memtype, part=(1, 2))

    assert outcome.verdict.accepted
    assert outcome.kernel.accepted
    assert outcome.granted_pages == (None, UC_MINUS, UC_MINUS, None)
    assert tracked(guest, bar) == [("X", bar[1:3], memtype)]
    assert guest.tracked(bar)[0].address == outcome.address + 4096
    assert listed(guest, bar) == []
    with pytest.raises(ProcessFault) as fault:
        process.read(mapping_of(outcome), page=0)
    assert fault.value.signal == SIGBUS
    process.exit()
    assert tracked(guest, bar) == []


@pytest.mark.parametrize(("memtype", "accepted"), [(WC, True), (UC_MINUS, False)])
def test_part_beside_a_driver(guest: Guest, memtype: MemType, accepted: bool) -> None:
    """A part takes the type that is there; the verifier is asked for its pages and no others."""
    bar = guest.mmio(pages=4)
    drm = guest.driver("drm")
    assert drm.ioremap(bar[2:3], WC).accepted
    assert drm.ioremap(bar[3:], UC).accepted
    process = guest.process("X")

    outcome = process.mmap(bar, memtype, part=(2, 1))

    assert outcome.verdict.accepted == accepted
    assert outcome.verdict.rule == (None if accepted else "alias")
    assert outcome.granted_pages == (None, None, WC, None)
    assert ("X" in [each[0] for each in tracked(guest, bar)]) == accepted
    assert listed(guest, bar) == [(bar[2:3], WC), (bar[3:], UC)]


def test_part_of_pages_that_differ(guest: Guest) -> None:
    """Linux can't give pages of different types one: EINVAL."""
    bar = guest.mmio(pages=4)
    drm = guest.driver("drm")
    assert drm.ioremap(bar[1:2], WC).accepted
    assert drm.ioremap(bar[2:3], UC_MINUS).accepted

    outcome = guest.process("X").mmap(bar, WC, part=(1, 2))

    assert outcome.verdict.rule == "alias"
    assert outcome.kernel.errno == errno.EINVAL
    assert outcome.mapping is None
    assert [each[0] for each in tracked(guest, bar)] == ["drm", "drm"]


def test_part_that_is_private(guest: Guest) -> None:
    """``remap_pfn_range()`` of a copy-on-write VMA wants all of it (mm/memory.c)."""
    bar = guest.mmio(pages=4)

    outcome = guest.process("X").mmap(bar, WC, private=True, part=(0, 2))

    assert outcome.verdict.accepted
    assert outcome.kernel.errno == errno.EINVAL
    assert tracked(guest, bar) == []


def test_part_stays_a_part(guest: Guest) -> None:
    """In every piece and copy of the VMA only the part's pages count."""
    bar = guest.mmio(pages=6)
    process = guest.process("X")
    mapping = mapping_of(process.mmap(bar, WC, part=(2, 2)))

    child = process.fork("Y")
    assert tracked(guest, bar) == [("X", bar[2:4], WC), ("Y", bar[2:4], WC)]
    # A piece without a page of the part, and one with both its pages.
    assert process.munmap(mapping, pages=1) == 0
    assert tracked(guest, bar) == [("X", bar[2:4], WC), ("Y", bar[2:4], WC)]
    moved = process.mremap(mapping, offset=3, move=True)
    assert tracked(guest, bar) == [("X", bar[2], WC), ("Y", bar[2:4], WC), ("X", bar[3], WC)]
    assert guest.tracked(bar[3])[-1].address_of(bar[3].start) == moved.address
    child.exit()
    assert process.munmap(mapping) == 0
    assert tracked(guest, bar) == [("X", bar[3], WC)]
    assert process.munmap(moved, offset=1) == 0
    assert tracked(guest, bar) == [("X", bar[3], WC)]
    assert process.munmap(moved, pages=1) == 0
    assert tracked(guest, bar) == []


def test_pages_that_come_when_touched(guest: Guest) -> None:
    """``vmf_insert_pfn()``: counted from mmap on, not there before the touch, and then UC-."""
    bar = guest.mmio(pages=4)
    process = guest.process("X")

    outcome = process.mmap(bar, WC, via="insert_pfn")

    assert outcome.verdict.accepted
    assert outcome.kernel.accepted
    assert outcome.granted_pages == (None,) * 4
    assert tracked(guest, bar) == [("X", bar, WC)]
    mapping = mapping_of(outcome)
    process.write(mapping, page=2)
    assert types(guest, process, mapping) == (None, None, UC_MINUS, None)
    assert listed(guest, bar) == []
    child = process.fork("Y")
    assert child.read(mapping, page=2) == 1
    child.read(mapping, page=0)
    assert types(guest, child, mapping) == (UC_MINUS, None, UC_MINUS, None)
    assert tracked(guest, bar) == [("X", bar, WC), ("Y", bar, WC)]
    assert child.munmap(mapping, offset=1, pages=2) == 0
    process.exit()
    assert tracked(guest, bar) == [("Y", bar[0], WC), ("Y", bar[3], WC)]
    child.exit()
    assert tracked(guest, bar) == []


@pytest.mark.expect_alias
def test_page_inserted_beside_a_driver(guest: Guest) -> None:
    """The type is looked up at the touch, not when the mapping was made.

    The page touched before is UC- then and stays it, beside the driver's WC: an alias that neither Linux nor
    the verifier knows of, since both were asked for WC.
    """
    bar = guest.mmio(pages=2)
    process = guest.process("X")
    mapping = mapping_of(process.mmap(bar, WC, via="insert_pfn"))
    process.read(mapping, page=0)

    assert guest.driver("drm").ioremap(bar, WC).accepted
    process.read(mapping, page=1)

    assert types(guest, process, mapping) == (UC_MINUS, WC)


def test_inserted_page_is_invisible_to_linux(guest: Guest) -> None:
    """ "A later full-VMA WC remap of the same pfn succeeds and both live on with different types" (rules)."""
    bar = guest.mmio(pages=1)
    x, y = guest.process("X"), guest.process("Y")
    inserted = mapping_of(x.mmap(bar, UC_MINUS, via="insert_pfn"))
    x.write(inserted, page=0)

    remapped = y.mmap(bar, WC)

    assert remapped.verdict.rule == "alias"
    assert remapped.verdict.conflict is not None
    assert remapped.verdict.conflict.owner == "X"
    assert remapped.kernel.accepted
    assert remapped.granted is WC
    assert remapped.kernel.log == ()
    assert types(guest, x, inserted) == (UC_MINUS,)
    assert tracked(guest, bar) == [("X", bar, UC_MINUS)]


def test_what_cannot_be_inserted(guest: Guest) -> None:
    """A page to be copied on write would be a BUG(); the verifier's refusal holds in enforce mode."""
    bar = guest.mmio(pages=2)
    process = guest.process("X")

    private = process.mmap(bar, WC, via="insert_pfn", private=True)
    assert private.verdict.accepted
    assert private.kernel.errno == errno.EINVAL
    assert tracked(guest, bar) == []

    assert guest.driver("drm").ioremap(bar, WC).accepted
    refused = process.mmap(bar, UC_MINUS, via="insert_pfn")
    assert refused.verdict.rule == "alias"
    process.read(mapping_of(refused), page=0)
    assert types(guest, process, mapping_of(refused)) == (WC, None)
    assert process.munmap(mapping_of(refused), pages=1) == 0
    assert tracked(guest, bar) == [("drm", bar, WC)]
    guest.policy.enforce = True
    refused = process.mmap(bar, UC_MINUS, via="insert_pfn")
    assert not refused.kernel.asked
    assert refused.mapping is None


@pytest.mark.parametrize(("first", "pages"), [(0, 1), (2, 2), (0, 4)], ids=["head", "tail", "all"])
def test_zap(guest: Guest, first: int, pages: int) -> None:
    """The entries go, the VMA and its record stay; up to 6.15 Linux forgets all of the VMA.

    "Zapping part of a pfnmap VMA untracks all of it" (Peter Xu, 2024; gone with the rework of 6.16). The
    pages that are still mapped UC- can then be had WC, and nothing is said.
    """
    bar = guest.mmio(pages=4)
    process, other = guest.process("X"), guest.process("Y")
    mapping = mapping_of(process.mmap(bar, UC_MINUS))

    guest.driver("vfio").zap(bar[first : first + pages])

    zapped = range(first, first + pages)
    left = tuple(None if page in zapped else UC_MINUS for page in range(4))
    assert types(guest, process, mapping) == left
    assert tracked(guest, bar) == [("X", bar, UC_MINUS)]
    assert listed(guest, bar) == ([(bar, UC_MINUS)] if counts_once(guest) else [])
    with pytest.raises(ProcessFault) as fault:
        process.read(mapping, page=first)
    assert fault.value.signal == SIGBUS
    second = other.mmap(bar, WC)
    assert second.verdict.rule == "alias"
    assert second.granted is (UC_MINUS if counts_once(guest) else WC)
    assert second.kernel.log == ()
    assert types(guest, process, mapping) == left
    # What is left of a VMA that was zapped is followed as before.
    child = process.fork("Z")
    assert process.munmap(mapping, offset=1, pages=2) == 0
    assert tracked(guest, bar) == [("X", bar[0], UC_MINUS), ("Z", bar, UC_MINUS), ("X", bar[3], UC_MINUS)]
    process.exit()
    child.exit()
    assert tracked(guest, bar) == []


def test_zap_of_two_that_overlap(guest: Guest) -> None:
    """Up to 6.15 Linux forgets first what begins first in the file, whatever its address.

    unmap_mapping_range_tree() goes through the file's interval tree (mm/memory.c, mm/interval_tree.c). Of
    what was split the last part takes its pages from the reservation, and the others have none of their own:
    memtype_erase() looks for the same range, then for the same end.
    """
    bar = guest.mmio(pages=12)
    process = guest.process("X")
    upper, lower = bar[7:12], bar[1:10]
    split = mapping_of(process.mmap(upper, UC_MINUS))
    assert process.mmap(lower, UC_MINUS).accepted
    process.mprotect(split, "r", offset=3, pages=1)

    guest.driver("vfio").zap(bar[9:12])

    # Were the first part of the upper one first, it would leave bar[1:7] of the lower one.
    assert listed(guest, bar) == (
        [(lower, UC_MINUS), (upper, UC_MINUS)] if counts_once(guest) else [(bar[7:11], UC_MINUS)]
    )
    assert types(guest, process, split) == (UC_MINUS, UC_MINUS, None, None, None)
    assert {record[1] for record in tracked(guest, bar)} == {lower, bar[7:10], bar[10], bar[11]}


def test_zap_and_touch_again(guest: Guest) -> None:
    """What is mapped by touching comes back, with the type of that moment; other devices keep theirs."""
    bar = guest.mmio(pages=2)
    x, y = guest.process("X"), guest.process("Y")
    inserted = mapping_of(x.mmap(bar, WC, via="insert_pfn"))
    x.write(inserted, page=1, value=7)
    assert types(guest, x, inserted) == (None, UC_MINUS)
    elsewhere = mapping_of(y.mmap(bar, WC, via="sysfs"))

    guest.driver("vfio").zap(bar)

    assert types(guest, x, inserted) == (None, None)
    assert types(guest, y, elsewhere) == (WC, WC)
    assert tracked(guest, bar) == [("X", bar, WC), ("Y", bar, WC)]
    assert x.read(inserted, page=1) == 7
    assert types(guest, x, inserted) == (None, WC)


def test_zap_of_nothing(guest: Guest) -> None:
    vfio = guest.driver("vfio")
    vfio.zap(guest.mmio(pages=1))
    with pytest.raises(AgentError, match="zap"):
        vfio.zap(Region(0xFD000000, 0))


@pytest.mark.parametrize("part", [(0, 0), (-1, 1), (3, 2), (5, 1)])
def test_parts_that_are_none(guest: Guest, part: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="doesn't lie in the 4 pages"):
        guest.process("X").mmap(guest.mmio(pages=4), WC, part=part)
    with pytest.raises(UsageError, match="via 'driver' only"):
        guest.process("Y").mmap(guest.mmio(pages=4), WC, via="sysfs", part=(0, 1))
