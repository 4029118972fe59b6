"""The model follows what a guest did, as the records tell it."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from pytest_memtype.spec.linux import Answer
from pytest_memtype.spec.linux_versions import Version
from pytest_memtype.spec.replay import Expected, Replay, Step, replay
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.pat import LINUX_PAT, RESET_PAT

BAR = 0xFD000000
UC_MINUS, WC = MemType.UC_MINUS, MemType.WC
OLD, NEW = (6, 1, 192), (7, 3, 4)


def machine(version: Version, *, has_mtrr: bool = True) -> Replay:
    return Replay(version, 256 << 20, has_mtrr=has_mtrr, pat=True)


def numbered(*steps: dict[str, Any]) -> list[Step]:
    return [{"step": number, **step} for number, step in enumerate(steps, start=1)]


def done(operation: str, actor: str = "X", result: Any = 0, **arguments: Any) -> dict[str, Any]:
    return {"operation": operation, "actor": actor, "arguments": arguments, "result": result}


def mapped(operation: str, memtype: str, **changes: Any) -> dict[str, Any]:
    way = {"via": "sysfs", "private": 0, "protection": "rw"} if operation.startswith("mmap") else {}
    return {
        "operation": operation,
        "actor": "X",
        "region": {"start": BAR, "pages": 4},
        "memory": "device",
        "mtrr": "UC",
        "arguments": way,
        "handle": 7,
        "address": 0x7000_0000_0000,
        "requested": memtype,
        "kernel_answer": {"asked": True, "accepted": True, "errno": 0},
        **changes,
    }


START = done("process", actor="test", name="X")
PRIVATE = {"via": "sysfs", "private": 1, "protection": "rw"}


def expected(version: Version, *steps: dict[str, Any], has_mtrr: bool = True) -> list[Expected]:
    return [each for _, each in replay(numbered(*steps), machine(version, has_mtrr=has_mtrr))]


@pytest.mark.parametrize(("version", "pages"), [(OLD, 2), (NEW, 4)])
def test_what_a_partial_munmap_leaves(version: Version, pages: int) -> None:
    steps = (
        START,
        mapped("mmap sysfs", "UC-"),
        done("munmap", handle=7, offset=2, pages=2),
        done("memtype_list", actor="test", start=BAR, pages=4),
    )
    assert expected(version, *steps) == [
        Expected(answer=Answer(0, (UC_MINUS,) * 4)),
        Expected(result=0),
        Expected(listed=((BAR, pages, UC_MINUS),)),
    ]


@pytest.mark.parametrize(("version", "result"), [(OLD, errno.ENOMEM), (NEW, 0)])
def test_fork_of_a_private_mapping(version: Version, result: int) -> None:
    steps = (
        START,
        mapped("mmap sysfs private", "UC-", arguments=PRIVATE),
        done("write", result={"signal": 0}, handle=7, offset=0, pages=1, value=1),
        done("fork", name="Y"),
    )
    assert expected(version, *steps)[1:] == [Expected(result=0), Expected(result=result)]


@pytest.mark.parametrize(
    ("version", "pat"), [((5, 10, 262), RESET_PAT), (OLD, RESET_PAT), ((6, 12, 95), LINUX_PAT)]
)
def test_pat_without_mtrr(version: Version, pat: int) -> None:
    look = done("registers_outside", actor="test")
    assert expected(version, look, has_mtrr=False) == [Expected(pat_value=pat)]
    assert expected(version, look) == [Expected(pat_value=LINUX_PAT)]


@pytest.mark.parametrize(("version", "left"), [(OLD, True), (NEW, False)])
def test_a_part_that_moves(version: Version, left: bool) -> None:
    """Bugs 4.1: a move of the tail leaves its reservation behind."""
    moved = done("mremap", handle=7, offset=2, pages=2, move=1, dont_unmap=0)
    steps = (
        START,
        mapped("mmap sysfs", "UC-"),
        {**moved, "handle": 8, "address": 0x7100_0000_0000},
        done("page_table", handle=8),
        done("exit"),
        done("memtype_list", actor="test", start=BAR, pages=4),
    )
    assert expected(version, *steps)[1:3] == [Expected(result=0), Expected(types=(UC_MINUS,) * 2)]
    listed = expected(version, *steps)[3].listed
    assert listed is not None
    assert bool(listed) is left


def test_drivers_and_their_releases() -> None:
    other = mapped("ioremap", "UC-", handle=8)
    steps = (mapped("ioremap", "WC"), other, done("release", handle=7), done("release", handle=8))
    look = done("memtype_list", actor="test", start=BAR, pages=4)
    assert expected(OLD, *steps, look) == [
        Expected(answer=Answer(0, (WC,) * 4)),
        Expected(answer=Answer(0, (WC,) * 4)),
        Expected(listed=()),
    ]


@pytest.mark.parametrize(
    "step",
    [
        done("mremap", handle=7, offset=0, move=1, dont_unmap=1),
        done("change_registers", actor="test"),
        done("release", handle=99),
        done("mmap", result="died"),
        mapped("ioremap", "WC", mtrr=None),
        mapped("ioremap", "WC", region={"start": 0x100000, "pages": 1}),
    ],
    ids=["move", "registers", "unknown handle", "death", "mixed MTRRs", "somebody's RAM"],
)
def test_what_it_can_not_follow_ends_it(step: dict[str, Any]) -> None:
    look = done("registers", actor="test")
    assert len(expected(OLD, look, step, look)) == 1


def test_a_shared_guest_is_not_followed() -> None:
    assert list(replay([{"step": 2, **done("registers", actor="test")}], machine(OLD))) == []


@pytest.mark.parametrize(
    ("via", "answer"), [("sysfs", errno.EACCES), ("devmem", errno.EACCES), ("driver", 0)]
)
def test_files_for_root_alone(via: str, answer: int) -> None:
    arguments = {"via": via, "private": 0, "protection": "rw"}
    (found,) = expected(
        OLD,
        done("process", actor="test", name="X", uid=1000),
        mapped(f"mmap {via}", "WC", arguments=arguments),
    )
    assert found.answer is not None
    assert found.answer.errno == answer
