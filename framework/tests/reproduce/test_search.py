"""Ways to messages, found in the model: the shortest, and none where the sources say that there is none."""

from __future__ import annotations

import pytest

from pytest_memtype import MemType
from pytest_memtype.dumps.facts import Dump
from pytest_memtype.dumps.read import read
from pytest_memtype.reproduce.play import Machine, played
from pytest_memtype.reproduce.requests import requests_for
from pytest_memtype.reproduce.search import Budget, Goal, search
from pytest_memtype.reproduce.setting import settings
from pytest_memtype.reproduce.step import Board, Step
from pytest_memtype.reproduce.wanted import PageLines
from pytest_memtype.spec.linux_messages import Event, Message
from pytest_memtype.spec.linux_versions import Version

WB, WC, WT, UC_MINUS = MemType.WB, MemType.WC, MemType.WT, MemType.UC_MINUS
BULLSEYE, BOOKWORM, TRIXIE, NEWEST = (5, 10, 262), (6, 1, 192), (6, 12, 118), (7, 3, 4)


def board(cells: int = 3, *, ram: bool = False, write_back: bool = False) -> Board:
    edges = tuple(0xD0000000 + 0x1000 * number for number in range(cells + 1))
    return Board(edges, (ram,) * cells, (write_back or ram,) * cells)


def way(
    goal: Goal, where: Board, version: Version, *, has_mtrr: bool = True, scenes: int = 60_000
) -> list[str] | None:
    steps = search(goal, where, Machine(version, has_mtrr=has_mtrr), budget=Budget(scenes))
    return None if steps is None else [each.verb for each in steps]


def freed(**rest: object) -> Goal:
    return Goal((Message(Event.FREEING_INVALID, 1, 2),), types=(UC_MINUS,), **rest)  # type: ignore[arg-type]


def test_two_types_under_one_request() -> None:
    messages = (
        Message(Event.CONFLICTING_TYPES, 1, 3, held=(UC_MINUS, WC)),
        Message(Event.RESERVE_FAILED, 1, 3, UC_MINUS, (UC_MINUS,)),
    )
    found = search(Goal(messages, types=(UC_MINUS, WC)), board(4), Machine(BOOKWORM), budget=Budget(20_000))
    # The lower piece has the type that is named first, and nothing says that ioremap() failed.
    assert found == (
        Step("mmap", 1, 2, UC_MINUS),
        Step("mmap", 2, 3, WC),
        Step("mmap", 1, 3, UC_MINUS),
    )


def test_a_driver_says_more() -> None:
    messages = (
        Message(Event.CONFLICTING_TYPES, 1, 3, held=(WC, UC_MINUS)),
        Message(Event.RESERVE_FAILED, 1, 3, WC, (WC,)),
        Message(Event.IOREMAP_FAILED),
    )
    assert way(Goal(messages, types=(WC, UC_MINUS)), board(4), NEWEST) == ["ioremap"] * 3


@pytest.mark.parametrize("write_back", [True, False])
def test_write_back_first_needs_mtrrs_that_say_so(write_back: bool) -> None:
    goal = Goal((Message(Event.IOREMAP_REFUSED, 1, 2, UC_MINUS, (WB,)),), types=(UC_MINUS, WB))
    found = way(goal, board(write_back=write_back), TRIXIE, scenes=1_500)
    assert found == (["ioremap"] * 2 if write_back else None)


def test_write_back_that_is_asked_for_where_the_mtrrs_do_not_say_so() -> None:
    """It is tracked as UC-, which no request for UC- is logged as."""
    messages = (
        Message(Event.CONFLICTING_TYPES, 1, 4, held=(UC_MINUS, WT)),
        Message(Event.RESERVE_FAILED, 1, 4, WB, (UC_MINUS,)),
        Message(Event.IOREMAP_FAILED),
    )
    goal = Goal(messages, types=(UC_MINUS, WT, WB))
    found = search(goal, board(5), Machine(BOOKWORM), budget=Budget(4_000), changing=False)
    assert found is not None
    assert found[-1] == Step("ioremap", 1, 4, WB)


def test_two_refusals_of_different_ranges_cost_little() -> None:
    """Only types in use are set up, by one verb, and only what a message is about is asked for besides."""
    messages = (
        Message(Event.IOREMAP_REFUSED, 2, 3, WT, (WC,)),
        Message(Event.USER_REFUSED, 1, 5, WT, (WC,)),
    )
    goal = Goal(messages, types=(WT, WC, UC_MINUS))
    found = search(goal, board(6), Machine(NEWEST), budget=Budget(2_000), changing=False)
    assert found is not None
    assert {(each.verb, each.memtype) for each in found} == {("ioremap", WC), ("ioremap", WT), ("mmap", WT)}


def test_a_conflict_of_two_types_costs_little() -> None:
    """Neither forks nor a second verb have to do with it."""
    messages = (
        Message(Event.CONFLICTING_TYPES, 1, 4, held=(WC, WT)),
        Message(Event.RESERVE_FAILED, 1, 4, WC, (WC,)),
    )
    goal = Goal(messages, types=(WC, WT, UC_MINUS))
    found = search(goal, board(5), Machine(BULLSEYE), budget=Budget(800), changing=False)
    assert [each.verb for each in found or ()] == ["mmap", "mmap", "mmap"]


def test_a_fork_that_wants_the_very_type() -> None:
    """A CPU without MTRRs on 6.1: WC is tracked, the page table has UC-."""
    goal = Goal((Message(Event.USER_REFUSED, 1, 2, UC_MINUS, (WC,)),), types=(UC_MINUS, WC))
    assert way(goal, board(), BOOKWORM, has_mtrr=False) == ["ioremap", "mmap", "fork"]
    assert way(goal, board(), BOOKWORM, scenes=1_500) is None
    assert way(goal, board(), TRIXIE, has_mtrr=False, scenes=1_500) is None


def test_a_split_mapping() -> None:
    assert way(freed(), board(), BOOKWORM) == ["mmap", "munmap"]
    assert way(freed(verbs=frozenset({"mprotect", "munmap"})), board(), BOOKWORM) == [
        "mmap",
        "mprotect",
        "munmap",
    ]
    # 6.16: one context for all pieces.
    assert way(freed(), board(), NEWEST, scenes=1_500) is None


def test_a_fork_that_frees_the_parents() -> None:
    goal = freed(verbs=frozenset({"fork"}), private=True, fork_fails=True)
    assert way(goal, board(), BULLSEYE) == ["mmap", "write", "fork", "exit"]
    # dc84bc2aba85, in 6.1.162: it frees its own reservations only.
    assert way(goal, board(), BOOKWORM, scenes=4_000) is None


def test_memory_that_runs_out() -> None:
    goal = Goal((Message(Event.NO_FIRST_PAGE),), types=(UC_MINUS,))
    assert way(goal, board(1), BULLSEYE) == ["mmap", "fork_without_memory"]
    assert way(goal, board(1), TRIXIE, scenes=1_500) is None


@pytest.mark.parametrize(
    ("message", "verbs"),
    [
        (Message(Event.USER_RAM, 1, 2, WC, (WB,)), ["mmap"]),
        (Message(Event.USER_RAM, 1, 2, WB, (WC,)), ["set_memory", "mmap"]),
        (Message(Event.RAM_RESERVE_FAILED, 1, 2, UC_MINUS, (WC,)), ["set_memory", "set_memory"]),
        (Message(Event.IOREMAP_ON_RAM, 1, 2), ["ioremap"]),
        (Message(Event.MEMREMAP_ON_RAM, 1, 2), ["memremap"]),
    ],
)
def test_messages_about_ram(message: Message, verbs: list[str]) -> None:
    goal = Goal((message,), types=(UC_MINUS, WC, WB))
    assert way(goal, board(ram=True), BOOKWORM) == verbs


def test_a_budget_is_kept() -> None:
    budget = Budget(100)
    assert search(freed(), board(), Machine(NEWEST), budget=budget) is None
    assert budget.scenes == 0


def test_a_scene_goes_its_own_way() -> None:
    """A copy of the model shares nothing with its original, and says what a replay says."""
    steps = [
        Step("mmap", 0, 3, UC_MINUS),
        Step("fork"),
        Step("munmap", 0, 1, target=0),
        Step("exit", child=True),
        Step("exit"),
    ]
    for version in (BULLSEYE, NEWEST):
        scene = played((), board(), Machine(version))
        scenes = [scene]
        for step in steps:
            scenes.append(scenes[-1].after(step))
        assert scene.steps == []
        for number, each in enumerate(scenes):
            replay = played(steps[:number], board(), Machine(version))
            assert (each.said, each.key()) == (replay.said, replay.key())


def test_ram_that_linux_has_not_taken_for_itself() -> None:
    # What it has for each page lies at the top of the RAM, and that is no RAM to ioremap().
    end = 0x7A2F2000
    lines = PageLines((), (Message(Event.IOREMAP_ON_RAM, end - 0x1000, end),))
    setting = next(settings(Dump(), lines))
    assert setting.offset == 0
    assert setting.hardware.memory_bytes - end > setting.hardware.memory_bytes // 64 + (16 << 20)


def test_registers_are_filled_where_one_covers_all_below_4g() -> None:
    report = read(
        "mtrr: no more MTRRs available\n"
        "reg00: base=0x000000000 (    0MB), size= 4096MB, count=1: write-back\n"
        "reg01: base=0x0c0000000 ( 3072MB), size= 1024MB, count=1: uncachable\n"
    )
    asked, left = requests_for(report.complaints, next(settings(report, None)))
    assert (len(asked), left) == (7, [])
