"""Which mappings a new one stands beside, whatever became of them."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from pytest_memtype import KernelAnswer, Mapping, MemType, Outcome, Region, TrackedMapping, Verdict
from pytest_memtype.guest.journal import Journal
from pytest_memtype.guest.region import together

UC_MINUS, WC = MemType.UC_MINUS, MemType.WC
BAR = Region(0xFD000000, 4)
MAPPING = Mapping("user", "X", 7, BAR)
REFUSED = Verdict(accepted=False, rule="alias", errno=16, conflict=None, hazards=())


def outcome(granted: tuple[MemType | None, ...], mapping: Mapping = MAPPING) -> Outcome:
    return Outcome(
        operation="mmap",
        actor=mapping.holder,
        region=mapping.region,
        requested_or_none=WC,
        verdict_or_none=Verdict(accepted=True, rule=None, errno=0, conflict=None, hazards=()),
        kernel=KernelAnswer(asked=True, accepted=True, errno=0, log=()),
        granted_pages=granted,
        effective_pages=(None,) * len(granted),
        mapping=mapping,
    )


@pytest.fixture
def journal() -> Journal:
    """With one mapping, all of it there."""
    journal = Journal()
    journal.mapped(outcome((WC,) * 4), "mmap driver")
    return journal


def beside(journal: Journal, region: Region) -> list[str]:
    journal.mapped(replace(outcome((None,) * region.pages), region=region, mapping=None), "probe")
    found: list[str] = journal.entries[-1]["beside"]
    return found


def held(journal: Journal) -> list[set[int]]:
    """The handles of the live mappings of each page."""
    return [{each.handle for each in journal.live(Region(page, 1))} for page in BAR.addresses()]


def test_a_part_unmapped(journal: Journal) -> None:
    journal.unmapped(MAPPING, "X", offset=1, pages=2)
    assert held(journal) == [{7}, set(), set(), {7}]
    assert beside(journal, BAR[1:3]) == []
    assert beside(journal, BAR[2:]) == ["mmap driver WC"]


def test_a_part_moved(journal: Journal) -> None:
    to = Mapping("user", "X", 8, BAR[2:])
    journal.moved(MAPPING, to, "X", offset=2, pages=2)
    assert held(journal) == [{7}, {7}, {8}, {8}]
    journal.unmapped(MAPPING, "X", offset=0, pages=None)
    assert held(journal) == [set(), set(), {8}, {8}]
    journal.unmapped(to, "X", offset=0, pages=1)
    assert held(journal) == [set(), set(), set(), {8}]


def test_moved_and_shrunk(journal: Journal) -> None:
    journal.moved(MAPPING, Mapping("user", "X", 8, BAR[0]), "X", offset=0, pages=4)
    assert held(journal) == [{8}, set(), set(), set()]


def test_pages_that_come_when_touched() -> None:
    journal = Journal()
    journal.mapped(outcome((None,) * 4), "mmap insert_pfn")
    assert held(journal) == [{7}] * 4
    assert beside(journal, BAR[3]) == ["mmap insert_pfn WC"]


def test_a_childs_mapping_goes_by_its_own_name(journal: Journal) -> None:
    journal.inherited("X", "Y")
    journal.unmapped(MAPPING, "Y", offset=0, pages=None)
    assert held(journal) == [{7}] * 4
    journal.exited("X")
    assert held(journal) == [set()] * 4


@pytest.mark.parametrize("order", [(0, 3), (3, 0)])
def test_pieces_stand_beside_what_any_of_them_meets(journal: Journal, order: tuple[int, int]) -> None:
    """A list of pieces needn't ascend, and memory between them is none of its."""
    journal.unmapped(MAPPING, "X", offset=1, pages=3)
    assert beside(journal, together(BAR[n] for n in order)) == ["mmap driver WC"]
    assert beside(journal, together([BAR[3], BAR[1]])) == []
    assert beside(journal, together([BAR[1], BAR[3]])) == []
    around = together([Region(BAR.start - 4096, 1), BAR[3]])
    assert beside(journal, around) == []


def test_an_observed_mapping_in_the_way_is_named(journal: Journal) -> None:
    """It is what the verdict is about, and no mapping of the test's."""
    theirs = TrackedMapping("mmap_mem", BAR, UC_MINUS, "user", observed=True)
    refused = Verdict(accepted=False, rule="alias", errno=16, conflict=theirs, hazards=())
    journal.mapped(replace(outcome((None,) * 4), verdict_or_none=refused, mapping=None), "ioremap")
    assert journal.entries[-1]["beside"] == ["mmap driver WC", "observed UC-"]


def test_an_alias_is_excused_where_each_page_is_refused_and_still_there() -> None:
    journal = Journal()
    for handle, region in enumerate((BAR[:2], BAR[1:]), start=7):
        made = outcome((WC,) * region.pages, Mapping("user", "X", handle, region))
        journal.mapped(replace(made, verdict_or_none=REFUSED), "mmap driver")
    journal.mapped(outcome((WC,), Mapping("user", "X", 9, BAR[0])), "mmap driver")
    assert journal.excuses(BAR)
    assert not journal.excuses(Region(BAR.start, 5))
    assert not journal.excuses(BAR[:0])
    journal.unmapped(Mapping("user", "X", 8, BAR[1:]), "X", offset=0, pages=2)
    assert [journal.excuses(BAR[page]) for page in range(4)] == [True, True, False, True]


def test_an_alias_of_many_pages_is_excused_at_once() -> None:
    """Each page of it was compared with each of the mapping: 20 s, and hours for 1 GiB."""
    journal = Journal()
    memory = Region(1 << 30, 1 << 14)
    made = outcome((WC,) * memory.pages, Mapping("user", "X", 7, memory))
    journal.mapped(replace(made, verdict_or_none=REFUSED), "mmap driver")
    start = time.process_time()
    assert journal.excuses(memory)
    assert all(journal.excuses(Region(address, 1)) for address in memory.addresses())
    assert time.process_time() - start < 2
