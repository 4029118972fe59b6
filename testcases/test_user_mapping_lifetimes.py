"""User mappings live and die with their VMAs: what becomes of them, and of the records of them.

After each step the verifier's records are held against ``/proc/PID/maps``, the kernel's own list of VMAs.
"Rules" is as in test_multi_driver.py, and "bug 4.1" is "VMA split leaks the reservation" (Nam Cao, 2024;
David Hildenbrand, 2025): up to 6.15 Linux keeps one reservation for all that a VMA is split into, and finds
it again only by its exact range or by its end.
"""

from __future__ import annotations

import errno

import pytest

from pytest_memtype import Guest, MemType, Process, ProcessFault, Region
from pytest_memtype.errors import AgentError
from pytest_memtype.guest.outcome import Mapping

UC, UC_MINUS, WC = MemType.UC, MemType.UC_MINUS, MemType.WC

pytestmark = [
    pytest.mark.layout("firmware"),
    pytest.mark.usefixtures("nothing_is_left"),
    pytest.mark.needs_module,
]

# Each way to map with the type that it asks for and, under the firmware's MTRRs, gets.
WAYS = [("driver", WC), ("sysfs", WC), ("devmem", UC_MINUS)]


def counts_once(guest: Guest) -> bool:
    """Does one reservation serve all that becomes of a mapping? Since 6.16 (rules, 2.5)."""
    return guest.version >= (6, 16)


def mapped(process: Process, region: Region, memtype: MemType, via: str = "driver") -> Mapping:
    outcome = process.mmap(region, memtype, via=via)
    assert outcome.accepted
    assert outcome.mapping is not None
    return outcome.mapping


def assert_followed(guest: Guest, region: Region, *processes: Process, memtype: MemType = WC) -> None:
    """The records of a region are its VMAs, one for one."""
    tracked = {(each.owner, each.pid, each.address, each.region) for each in guest.tracked(region)}
    vmas = {
        (process.name, process.pid, vma.address, vma.region)
        for process in processes
        for vma in process.vmas()
        if vma.region.overlaps(region)
    }
    assert tracked == vmas
    assert {each.memtype for each in guest.tracked(region)} == {memtype}


def listed(guest: Guest, region: Region) -> list[Region]:
    """The kernel's reservations."""
    return [entry.region for entry in guest.memtype_list(region)]


def types(guest: Guest, process: Process, mapping: Mapping) -> tuple[MemType | None, ...]:
    return process.page_table(mapping, guest.registers()[0])


@pytest.mark.parametrize(("via", "memtype"), WAYS)
def test_move(guest: Guest, via: str, memtype: MemType) -> None:
    """The record goes where the VMA goes; Linux hands its reservation over (rules, 2.5)."""
    bar = guest.mmio(pages=4)
    process = guest.process("X")
    old = mapped(process, bar, memtype, via)

    new = process.mremap(old, move=True)

    assert new.address != old.address
    assert new.region == bar
    assert types(guest, process, new) == (memtype,) * 4
    (record,) = guest.tracked(bar)
    assert record.address == new.address
    assert_followed(guest, bar, process, memtype=memtype)
    assert listed(guest, bar) == [bar]
    with pytest.raises(AgentError, match="has no mapping"):
        process.munmap(old)
    process.exit()
    assert listed(guest, bar) == []


@pytest.mark.parametrize("offset", [0, 1, 2], ids=["head", "middle", "tail"])
@pytest.mark.parametrize(("via", "memtype"), WAYS)
def test_move_of_a_part(guest: Guest, via: str, memtype: MemType, offset: int) -> None:
    """A part that moves is a record of its own; bug 4.1 leaves a reservation for ever where it shows."""
    bar = guest.mmio(pages=4)
    process = guest.process("X")
    old = mapped(process, bar, memtype, via)

    new = process.mremap(old, offset=offset, pages=2, move=True)

    assert new.region == bar[offset : offset + 2]
    assert types(guest, process, new) == (memtype,) * 2
    assert types(guest, process, old) == tuple(
        None if offset <= page < offset + 2 else memtype for page in range(4)
    )
    assert_followed(guest, bar, process, memtype=memtype)
    for page in bar.addresses():
        (record,) = guest.tracked(guest.region(page, 4096))
        at = old.address + page - bar.start
        if page in new.region.addresses():
            at = new.address + page - new.region.start
        assert record.address_of(page) == at
    assert guest.verify(bar[offset], UC).rule == "alias"
    process.exit()
    assert guest.tracked(bar) == ()
    if counts_once(guest):
        assert listed(guest, bar) == []
    else:
        # Bug 4.1, "mremap of the second half elsewhere (leftover, no message)"; of another part all is left.
        assert listed(guest, bar) == [bar[:2] if offset == 2 else bar]


@pytest.mark.parametrize(("via", "memtype"), WAYS)
def test_shrink(guest: Guest, via: str, memtype: MemType) -> None:
    """The tail goes, what stays keeps its place and its handle."""
    bar = guest.mmio(pages=4)
    process = guest.process("X")
    mapping = mapped(process, bar, memtype, via)

    assert process.mremap(mapping, new_pages=3) == mapping

    assert types(guest, process, mapping) == (memtype,) * 3 + (None,)
    assert_followed(guest, bar, process, memtype=memtype)
    assert guest.verify(bar[3], UC).accepted
    # Rules, 2.5: an entry with the same end is shortened; with one context the whole range stays.
    assert listed(guest, bar) == [bar if counts_once(guest) else bar[:3]]
    process.exit()
    assert guest.tracked(bar) == ()
    assert listed(guest, bar) == []


def test_shrink_and_move(guest: Guest) -> None:
    bar = guest.mmio(pages=4)
    process = guest.process("X")
    mapping = mapped(process, bar, WC)

    new = process.mremap(mapping, new_pages=1, move=True)

    assert new.region == bar[0]
    assert_followed(guest, bar, process)
    assert [record.region for record in guest.tracked(bar)] == [bar[0]]
    assert guest.verify(bar[1:], UC).accepted


@pytest.mark.parametrize("via", ["driver", "sysfs", "insert_pfn"])
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"new_pages": 5}, errno.EFAULT),
        ({"new_pages": 5, "move": True}, errno.EFAULT),
        ({"dont_unmap": True}, errno.EINVAL),
        ({"new_pages": 0}, errno.EINVAL),
    ],
    ids=["grow", "grow-and-move", "dont-unmap", "nothing"],
)
def test_what_mremap_refuses(guest: Guest, via: str, arguments: dict[str, int], error: int) -> None:
    """``mm/mremap.c`` lets no VM_DONTEXPAND | VM_PFNMAP area grow, nor be moved and kept."""
    bar = guest.mmio(pages=8)
    process = guest.process("X")
    outcome = process.mmap(bar[:4], WC, via=via)
    assert outcome.mapping is not None

    with pytest.raises(OSError, match="mremap of process X") as failure:
        process.mremap(outcome.mapping, **arguments)  # type: ignore[arg-type]

    assert failure.value.errno == error
    assert [(each.region, each.address) for each in guest.tracked(bar)] == [(bar[:4], outcome.address)]
    assert_followed(guest, bar, process)


def test_move_of_what_was_split(guest: Guest) -> None:
    """A range of two VMAs moves since 6.17 ("mm/mremap: permit mremap() move of multiple VMAs")."""
    bar = guest.mmio(pages=4)
    process = guest.process("X")
    mapping = mapped(process, bar, WC)
    assert process.mprotect(mapping, "r", offset=2) == 0
    assert len(guest.tracked(bar)) == 2

    if guest.version >= (6, 17):
        mapping = process.mremap(mapping, move=True)
    else:
        with pytest.raises(OSError, match="mremap") as failure:
            process.mremap(mapping, move=True)
        assert failure.value.errno == errno.EFAULT

    assert {each.address for each in guest.tracked(bar)} == {mapping.address, mapping.address + 2 * 4096}
    assert types(guest, process, mapping) == (WC,) * 4
    assert_followed(guest, bar, process)


@pytest.mark.parametrize(("via", "memtype"), WAYS)
def test_mprotect_splits(guest: Guest, via: str, memtype: MemType) -> None:
    """Protection splits the VMA, never the type: the count of each page stays one."""
    bar = guest.mmio(pages=4)
    process = guest.process("X")
    mapping = mapped(process, bar, memtype, via)

    assert process.mprotect(mapping, "r", offset=1, pages=2) == 0

    assert [record.region for record in guest.tracked(bar)] == [bar[0], bar[1:3], bar[3]]
    assert_followed(guest, bar, process, memtype=memtype)
    assert types(guest, process, mapping) == (memtype,) * 4
    with pytest.raises(ProcessFault):
        process.write(mapping, page=1)
    # VM_PFNMAP areas never merge again.
    assert process.mprotect(mapping, "rw", offset=1, pages=2) == 0
    assert len(guest.tracked(bar)) == 3
    assert_followed(guest, bar, process, memtype=memtype)
    assert types(guest, process, mapping) == (memtype,) * 4
    process.write(mapping, page=1)


def test_two_mappings_of_the_same_pages(guest: Guest) -> None:
    """A process may map pages twice: each goes on its own."""
    bar = guest.mmio(pages=4)
    process = guest.process("X")
    one, two = mapped(process, bar, WC), mapped(process, bar[1:3], WC)

    assert process.munmap(one, offset=1, pages=2) == 0

    assert [(each.region, each.address) for each in guest.tracked(bar)] == [
        (bar[0], one.address),
        (bar[1:3], two.address),
        (bar[3], one.address + 3 * 4096),
    ]
    assert_followed(guest, bar, process)
    two = process.mremap(two, move=True)
    assert process.munmap(one) == 0
    assert [(each.region, each.address) for each in guest.tracked(bar)] == [(bar[1:3], two.address)]
    assert types(guest, process, two) == (WC, WC)


@pytest.mark.parametrize(("via", "memtype"), [*WAYS, ("insert_pfn", WC)])
def test_generations(guest: Guest, via: str, memtype: MemType) -> None:
    """A grandchild's records go by its name, whatever became of the mapping before and after."""
    bar = guest.mmio(pages=4)
    parent = guest.process("X")
    outcome = parent.mmap(bar, memtype, via=via)
    assert outcome.mapping is not None
    tail = parent.mremap(outcome.mapping, offset=2, move=True)

    child = parent.fork("Y")
    grandchild = child.fork("Z")

    family = (parent, child, grandchild)
    assert_followed(guest, bar, *family, memtype=memtype)
    assert [each.owner for each in guest.tracked(bar[0])] == ["X", "Y", "Z"]
    assert parent.munmap(outcome.mapping) == 0
    moved = child.mremap(tail, offset=1, move=True)
    assert grandchild.mprotect(tail, "r", offset=1) == 0
    assert_followed(guest, bar, *family, memtype=memtype)
    assert {each.owner for each in guest.tracked(bar[3])} == {"X", "Y", "Z"}
    assert {each.address_of(bar[3].start) for each in guest.tracked(bar[3]) if each.owner == "Y"} == {
        moved.address
    }
    child.exit()
    parent.exit()
    assert {each.owner for each in guest.tracked(bar)} == {"Z"}
    assert_followed(guest, bar, grandchild, memtype=memtype)
    grandchild.exit()
    assert guest.tracked(bar) == ()


@pytest.mark.expect_alias  # the private page's copy is RAM, mapped UC- here and WB by the kernel
def test_fork_that_fails_half_way(guest: Guest) -> None:
    """What fork() had copied when it failed is gone, and the parent has all that it had.

    Up to 6.15 fork() can't copy a private mapping whose first page was written ("fork() with a COWed first
    page", David Hildenbrand, 2025): the type is read from a page that isn't the device's any more.
    """
    before, private, behind = (guest.mmio(pages=4) for _ in range(3))
    process = guest.process("X")
    mapped(process, before, UC_MINUS)
    outcome = process.mmap(private, UC_MINUS, private=True)
    assert outcome.mapping is not None
    mapped(process, behind, UC_MINUS)
    process.write(outcome.mapping, page=0)
    family = [process]

    if counts_once(guest):
        family.append(process.fork("Y"))
    else:
        with pytest.raises(OSError, match="fork") as failure:
            process.fork("Y")
        assert failure.value.errno == errno.ENOMEM

    for region in (before, private, behind):
        assert len(guest.tracked(region)) == len(family)
        assert_followed(guest, region, *family, memtype=UC_MINUS)
    assert types(guest, process, outcome.mapping) == (UC_MINUS,) * 4
    assert listed(guest, before) == [before]
