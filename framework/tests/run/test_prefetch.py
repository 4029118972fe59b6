"""Having a guest ready: when it is used, when it is thrown away, and that nothing stays behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pytest_memtype.errors import HostError
from pytest_memtype.run import prefetch
from pytest_memtype.run.prefetch import GuestPrefetch, Ready

GUEST_MEMORY = 256 << 20


@dataclass
class Machine:
    alive: bool = True

    def close(self) -> None:
        self.alive = False


@dataclass
class Guest:
    """What a pool needs of one."""

    kind: str
    machine: Machine = field(default_factory=Machine)


class Maker:
    """Makes guests, and remembers them."""

    def __init__(self) -> None:
        self.made: list[Guest] = []
        self.threads: list[str] = []

    def __call__(self, kind: str, logs: Path) -> Ready[Guest]:
        self.threads.append(threading.current_thread().name)
        logs.mkdir(parents=True)
        (logs / "console.log").touch()
        if kind == "broken":
            raise HostError("there is no QEMU")
        self.made.append(Guest(kind))
        return Ready(self.made[-1], "clone")


@pytest.fixture
def maker() -> Maker:
    return Maker()


@pytest.fixture
def ahead(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> Iterator[GuestPrefetch[str, Guest]]:
    monkeypatch.setattr(prefetch, "available_memory", lambda: 1 << 40)
    before = threading.active_count()
    made = GuestPrefetch(maker)
    yield made
    made.close()
    assert threading.active_count() == before


def test_without_expecting_it_is_made_at_once(
    ahead: GuestPrefetch[str, Guest], maker: Maker, tmp_path: Path
) -> None:
    assert ahead.take("one", tmp_path / "1").guest is maker.made[0]
    assert maker.threads == [threading.current_thread().name]


def test_the_expected_one_is_handed_out_once(
    ahead: GuestPrefetch[str, Guest], maker: Maker, tmp_path: Path
) -> None:
    ahead.expect("one", tmp_path / "1", memory=GUEST_MEMORY)
    ready = ahead.take("one", tmp_path / "1")
    assert ready == Ready(maker.made[0], "clone")
    assert maker.threads == ["memtype-next-guest"]
    assert ahead.take("one", tmp_path / "2").guest is not ready.guest


@pytest.mark.parametrize(("kind", "logs"), [("two", "1"), ("one", "2")])
def test_another_than_the_expected_one(
    ahead: GuestPrefetch[str, Guest], maker: Maker, tmp_path: Path, kind: str, logs: str
) -> None:
    ahead.expect("one", tmp_path / "1", memory=GUEST_MEMORY)
    taken = ahead.take(kind, tmp_path / logs).guest
    unwanted, wanted = maker.made
    assert taken is wanted
    assert taken.kind == kind
    assert taken.machine.alive
    assert not unwanted.machine.alive
    assert [path.name for path in tmp_path.iterdir()] == [logs]


def test_one_that_died_waiting_is_replaced(
    ahead: GuestPrefetch[str, Guest], maker: Maker, tmp_path: Path
) -> None:
    ahead.expect("one", tmp_path / "1", memory=GUEST_MEMORY)
    assert ahead._next is not None
    ahead._next.result().guest.machine.alive = False
    assert ahead.take("one", tmp_path / "1").guest is maker.made[1]


def test_what_went_wrong_is_raised_where_the_guest_is_asked_for(
    ahead: GuestPrefetch[str, Guest], tmp_path: Path
) -> None:
    ahead.expect("broken", tmp_path / "1", memory=GUEST_MEMORY)
    with pytest.raises(HostError, match="there is no QEMU"):
        ahead.take("broken", tmp_path / "1")


def test_what_went_wrong_with_one_that_nobody_wants_harms_nobody(
    ahead: GuestPrefetch[str, Guest], tmp_path: Path
) -> None:
    ahead.expect("broken", tmp_path / "1", memory=GUEST_MEMORY)
    assert ahead.take("one", tmp_path / "2").guest.machine.alive
    assert [path.name for path in tmp_path.iterdir()] == ["2"]


def test_at_most_one_is_started_ahead(ahead: GuestPrefetch[str, Guest], maker: Maker, tmp_path: Path) -> None:
    ahead.expect("one", tmp_path / "1", memory=GUEST_MEMORY)
    ahead.expect("two", tmp_path / "2", memory=GUEST_MEMORY)
    assert ahead.take("one", tmp_path / "1").guest.kind == "one"
    assert [guest.kind for guest in maker.made] == ["one"]


def test_a_host_short_of_memory_starts_none(
    ahead: GuestPrefetch[str, Guest], maker: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefetch, "available_memory", lambda: GUEST_MEMORY + prefetch.SPARE_MEMORY - 1)
    ahead.expect("one", tmp_path / "1", memory=GUEST_MEMORY)
    assert ahead._next is None
    assert maker.made == []


def test_closing_ends_the_one_nobody_asked_for(
    ahead: GuestPrefetch[str, Guest], maker: Maker, tmp_path: Path
) -> None:
    ahead.expect("one", tmp_path / "1", memory=GUEST_MEMORY)
    ahead.close()
    assert not maker.made[0].machine.alive
    assert list(tmp_path.iterdir()) == []
    ahead.close()
