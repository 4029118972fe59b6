"""Random operations on the verifier's C code; each answer is compared with ``spec/verifier.py``.

Memory is 64 pages, 16 to 23 of them RAM and 48 to 51 SMRAM, so that most requests meet another. A process has
a page at one of three addresses, each window of addresses showing all of memory: no two pages share one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import reduce

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, assume, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from memtype_support.verifier_library import Answer, Library, Record

from pytest_memtype.spec.verifier import (
    PAGE_SIZE,
    Machine,
    Request,
    TrackedPage,
    Verdict,
    Verifier,
    pages_of,
)
from pytest_memtype.x86.memtype import MemType

PHYSICAL_BITS = 18
FRAMES = 64
RAM = range(16, 24)
SMRAM = range(48, 52)
SMM_TYPE = MemType.UC
DRIVERS = ("drm", "fbdev", "agp", "x" * 31)
PROCESSES = (1, 2, 3)
WINDOWS = (0x10_0000, 0x7F00_0000_0000, 0x20_0000)
EVERY_TYPE = frozenset(MemType)

owners = st.one_of(
    st.sampled_from(DRIVERS).map(lambda name: (name, 0)),
    st.sampled_from(PROCESSES).map(lambda pid: (f"process{pid}", pid)),
)


# Mostly one type, or else there is an alias wherever there is anything.
memtypes = st.one_of(st.just(MemType.WC), st.just(MemType.WB), st.just(MemType.WC), st.sampled_from(MemType))


@st.composite
def requests(draw: st.DrawFn, *, malformed: bool = True) -> Request:
    """Mostly small ranges inside memory; some at its end, empty, or wrapped."""
    owner, pid = draw(owners)
    window = draw(st.sampled_from(WINDOWS))
    pfn = draw(st.integers(0, FRAMES - 1))
    pages = draw(st.integers(1, 8))
    if malformed and draw(st.integers(0, 9)) == 0:
        pfn = draw(st.sampled_from((pfn, 0, FRAMES - 1, FRAMES, 2**52, 2**64 - 1)))
        pages = draw(
            st.sampled_from((0, 1, FRAMES - pfn, FRAMES - pfn + 1, 2**52, 2**64 - 1)) | st.integers(0, 70)
        )
        assume(0 <= pages < 2**64)
    else:
        pages = min(pages, FRAMES - pfn)
    address = window + pfn * PAGE_SIZE if pid else 0
    return Request(pfn, pages, draw(memtypes), owner, pid, address % 2**64)


def bit_names(mask: int) -> frozenset[str]:
    return frozenset(str(bit) for bit in range(32) if mask >> bit & 1)


def agree(answer: Answer, verdict: Verdict) -> None:
    """Rule, error number, hazards, and a mapping in the way of the lowest page that has one."""
    assert (answer.rule, answer.errno) == (verdict.rule, verdict.errno)
    assert bit_names(answer.hazards) == verdict.hazards
    if not verdict.conflicts:
        assert answer.conflict is None
        return
    lowest = [page for page in verdict.conflicts if page.pfn == verdict.conflicts[0].pfn]
    assert answer.conflict is not None
    assert set(lowest) & set(answer.conflict), f"{answer.conflict} is none of {lowest}"


class Differential(RuleBasedStateMachine):
    """The library and the reference, side by side."""

    def __init__(self, library: Library) -> None:
        super().__init__()
        self.library = library
        self.possible = EVERY_TYPE
        self.reference = Verifier(
            Machine(
                physical_bits=PHYSICAL_BITS,
                possible=lambda: self.possible,
                is_ram=RAM.__contains__,
                default=lambda pfn, pages: (
                    MemType.WB if any(page in RAM for page in range(pfn, pfn + pages)) else MemType.UC_MINUS
                ),
                smram=lambda pfn: SMM_TYPE if pfn in SMRAM else None,
                effective=lambda _pfn, memtype: MemType.WC if memtype is MemType.WC else SMM_TYPE,
                hazards=lambda pfn, pages, memtype: bit_names(library.hazards(pfn, pfn + pages - 1, memtype)),
            )
        )
        library.start(
            last_pfn=FRAMES - 1,
            possible=self._possible_mask(),
            ram_first=RAM.start,
            ram_pages=len(RAM),
            ram_memtype=MemType.WB,
            default_memtype=MemType.UC_MINUS,
            firmware_first=SMRAM.start,
            firmware_pages=len(SMRAM),
            firmware_memtypes=reduce(lambda mask, each: mask | 1 << each, EVERY_TYPE - {MemType.WC}, 0),
        )
        self.names = 0
        for name in (*DRIVERS, *(f"process{pid}" for pid in PROCESSES)):
            library.release(library.adopt(Request(0, 1, MemType.WB, name)))
            self.names += 1

    def teardown(self) -> None:
        assert self.library.stop() == 0, "allocations were left behind"

    def _possible_mask(self) -> int:
        return reduce(lambda mask, memtype: mask | 1 << memtype, self.possible, 0)

    @rule(one_ioremap=st.booleans(), possible=st.sampled_from((EVERY_TYPE, EVERY_TYPE - {MemType.WC})))
    def change_machine(self, *, one_ioremap: bool, possible: frozenset[MemType]) -> None:
        self.possible = possible
        self.reference.one_ioremap = one_ioremap
        self.library.set_machine(possible=self._possible_mask(), one_ioremap=one_ioremap)

    @rule(request=requests())
    def check(self, request: Request) -> None:
        agree(self.library.check(request), self.reference.verify(request))

    @rule(request=requests())
    def track(self, request: Request) -> None:
        verdict = self.reference.track(request)
        answer, handle = self.library.track(request)
        agree(answer, verdict)
        assert bool(handle) is verdict.accepted

    @rule(request=requests())
    def track_without_memory(self, request: Request) -> None:
        self.library.fail_allocation(1)
        answer, handle = self.library.track(request)
        self.library.fail_allocation(0)
        agree(answer, self.reference.verify(request))
        assert not handle

    @rule(request=requests(malformed=False))
    def adopt(self, request: Request) -> None:
        assert self.library.adopt(request)
        self.reference.adopt(request)

    @precondition(lambda self: self.reference.pages)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        record = data.draw(st.sampled_from(self.library.records()))
        self.library.release(record.handle)
        self.reference.release(record.request)

    @rule(
        pid=st.sampled_from(PROCESSES),
        window=st.sampled_from(WINDOWS),
        first=st.integers(0, FRAMES - 1),
        pages=st.integers(1, 12),
    )
    def unmap(self, pid: int, window: int, first: int, pages: int) -> None:
        """munmap() over whatever is there."""
        self.cut(pid, window, first, pages)

    @precondition(lambda self: any(page.user for page in self.reference.tracked()))
    @rule(data=st.data())
    def unmap_part(self, data: st.DataObject) -> None:
        """munmap() of a part of one mapping: its beginning, middle or end."""
        records = [record.request for record in self.library.records() if record.request.user]
        of = data.draw(st.sampled_from(records))
        first = data.draw(st.integers(of.pfn, of.pfn + of.pages - 1))
        pages = data.draw(st.integers(1, of.pfn + of.pages - first))
        self.cut(of.pid, of.address - of.pfn * PAGE_SIZE, first, pages)

    def cut(self, pid: int, window: int, first: int, pages: int) -> None:
        """A split needs a record more, and can't fail for want of memory."""
        before = self.reference.tracked().total()
        address = window + first * PAGE_SIZE
        self.reference.unmap(pid, address, pages)
        self.library.fail_allocation(1)
        taken = self.library.cut(pid=pid, address=address, pfn=first, pages=pages)
        self.library.fail_allocation(0)
        assert taken == before - self.reference.tracked().total()

    @rule(parent=st.sampled_from(PROCESSES), child=st.sampled_from(PROCESSES))
    def fork(self, parent: int, child: int) -> None:
        assume(parent != child)
        self.exit(child)
        self.reference.fork(parent, child, f"process{child}")
        for record in self.library.records():
            of = record.request
            if of.pid == parent:
                copy = Request(of.pfn, of.pages, of.memtype, f"process{child}", child, of.address)
                assert self.library.adopt(copy)

    @rule(pid=st.sampled_from(PROCESSES))
    def exit(self, pid: int) -> None:
        held = sum(record.request.pid == pid for record in self.library.records())
        assert self.library.release_all(pid) == held
        self.reference.exit(pid)

    @rule(request=requests())
    def lookup(self, request: Request) -> None:
        errno, memtype, in_use = self.library.lookup(request.pfn, request.pages)
        expected = self.reference.lookup(request.pfn, request.pages)
        assert (errno, memtype) == (expected.errno, expected.memtype)
        assert errno or in_use is expected.in_use

    @rule(first=st.integers(0, FRAMES), pages=st.integers(1, FRAMES), capacity=st.integers(0, 4))
    def list_part(self, first: int, pages: int, capacity: int) -> None:
        """A listing is in order, of all that overlaps and nothing else, and ends when told to."""
        last = first + pages - 1
        listed = self.library.records(first, last)
        starts = [record.request.pfn for record in listed]
        assert starts == sorted(starts)
        overlap = {each for each in self.library.records() if each.request.pfn <= last and each.last >= first}
        assert len(listed) == len(overlap)
        assert set(listed) == overlap
        assert self.library.records(first, last, capacity=capacity) == listed[:capacity]

    @invariant()
    def the_same_is_tracked(self) -> None:
        records = self.library.records()
        assert tracked(records) == self.reference.tracked()
        assert self.library.allocations() == len(records) + self.names


def tracked(records: list[Record]) -> Counter[TrackedPage]:
    """Each page of each mapping, however it is cut into records."""
    return Counter(page for record in records for page in pages_of(record.request))


MACHINE = {
    "last_pfn": FRAMES - 1,
    "possible": 0xFFFFFFFF,
    "ram_first": RAM.start,
    "ram_pages": len(RAM),
    "ram_memtype": int(MemType.WB),
    "default_memtype": int(MemType.UC_MINUS),
}


@pytest.mark.parametrize("memtype", [8, 9, 31, 256, 256 + MemType.WC, 2**32 - 1])
def test_a_number_that_is_no_type_is_impossible(library: Library, memtype: int) -> None:
    request = Request(40, 1, MemType.WC, "drm")
    with library.started(**MACHINE):
        assert library.check(request, memtype=memtype).rule == "impossible"
        assert not library.adopt(request, memtype=memtype)
        assert library.records() == []


@pytest.mark.parametrize("failing", [1, 2])
def test_without_memory_for_name_or_record_nothing_is_tracked(library: Library, failing: int) -> None:
    request = Request(40, 4, MemType.WC, "drm")
    with library.started(**MACHINE):
        library.fail_allocation(failing)
        answer, handle = library.track(request)
        assert answer.rule is None
        assert not handle
        assert library.records() == []
        assert library.allocations() == failing - 1
        assert library.track(request)[1]


def test_names_are_told_apart_by_what_fits_a_record(library: Library) -> None:
    short, long, longer = "n" * 30, "n" * 31, "n" * 40
    with library.started(**MACHINE):
        for name in (short, long, longer):
            assert library.adopt(Request(40, 1, MemType.WC, name))
        assert [record.request.owner for record in library.records()] == [short, long, long]
        assert library.allocations() == 3 + 2


def test_a_cut_leaves_what_the_process_has_next_to_it(library: Library) -> None:
    """The same pages, mapped once more right behind or right before the addresses that go."""
    addresses = [WINDOWS[0] + index * 4 * PAGE_SIZE for index in range(3)]
    with library.started(**MACHINE):
        for address in addresses:
            assert library.adopt(Request(40, 4, MemType.WC, "process1", 1, address))
        assert library.cut(pid=1, address=addresses[1], pfn=40, pages=4) == 4
        assert [record.request.address for record in library.records()] == [addresses[0], addresses[2]]


def test_what_was_adopted_is_in_the_way_where_it_is_not_ram(library: Library) -> None:
    """Rule 2 is about pages that are not RAM, and RAM before them ends no search."""
    at_the_end = Request(RAM.stop - 4, 4, MemType.WC, "drm")
    across = Request(RAM.stop - 2, 4, MemType.WC, "fbdev")
    with library.started(**MACHINE):
        for each in (at_the_end, across):
            assert library.adopt(each)
        assert library.check(replace(at_the_end, memtype=MemType.WB)).rule is None
        answer = library.check(replace(across, memtype=MemType.WB))
        assert answer.rule == "alias"
        assert answer.conflict == tuple(pages_of(across))


def test_who_walks_over_much_lets_others_run(library: Library) -> None:
    """Page by page over RAM that somebody has with another type; record by record."""
    with library.started(**MACHINE):
        library.adopt(Request(RAM[0], len(RAM), MemType.WC, "agp"))
        before = library.rescheduled()
        assert library.check(Request(RAM[0], len(RAM), MemType.WB, "drm")).rule is None
        assert library.rescheduled() >= before + len(RAM) - 1
        for page in range(8):
            library.adopt(
                Request(page, 1, MemType.WC, "process1", pid=1, address=WINDOWS[0] + page * PAGE_SIZE)
            )
        before = library.rescheduled()
        assert len(library.records()) == 9
        assert library.rescheduled() >= before + 9
        before = library.rescheduled()
        assert library.cut(pid=1, address=WINDOWS[0], pfn=0, pages=8) == 8
        assert library.rescheduled() >= before + 8
        library.adopt(Request(0, 1, MemType.WC, "drm"))
        before = library.rescheduled()
    assert library.rescheduled() >= before + 2


def test_one_ioremap_counts_the_kernels_mappings_alone(library: Library) -> None:
    user = Request(40, 4, MemType.WC, "process1", 1, WINDOWS[0])
    kernel = Request(41, 1, MemType.WC, "drm")
    with library.started(**MACHINE, one_ioremap=1):
        for accepted in (user, kernel, user):
            assert library.track(accepted)[0].rule is None
        answer, handle = library.track(Request(40, 4, MemType.WC, "fbdev"))
        assert (answer.rule, answer.conflict) == ("exclusive", tuple(pages_of(kernel)))
        assert not handle


def test_a_cut_is_of_one_process(library: Library) -> None:
    """fork() gives the child the same pages at the same addresses."""
    parent = Request(40, 4, MemType.WC, "process1", 1, WINDOWS[0])
    child = replace(parent, owner="process2", pid=2)
    with library.started(**MACHINE):
        for process in (parent, child):
            assert library.adopt(process)
        assert library.cut(pid=1, address=WINDOWS[0], pfn=40, pages=4) == 4
        assert [record.request for record in library.records()] == [child]


def test_every_answer_is_the_references(library: Library) -> None:
    class OnThisLibrary(Differential):
        def __init__(self) -> None:
            super().__init__(library)

    run_state_machine_as_test(
        OnThisLibrary,
        settings=settings(
            stateful_step_count=50,
            suppress_health_check=list(HealthCheck),
        ),
    )
