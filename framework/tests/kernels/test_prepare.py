"""Several kernels at once: what waits for what. The kernels themselves are none of this file's business."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from pathlib import Path

import pytest

from pytest_memtype.errors import HostError, KernelError
from pytest_memtype.host.progress import Progress
from pytest_memtype.kernels import prepare as room
from pytest_memtype.kernels.bundle import Bundle
from pytest_memtype.kernels.stage import Stage, Step

PATIENCE = 30.0
"""Seconds until a thread that waits for another gives up."""


@pytest.fixture(autouse=True)
def an_empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path))


def made(spec: str) -> Bundle:
    nowhere = Path("/dev/null/none")
    return Bundle(spec, spec, "", nowhere, None, None, nowhere, nowhere, nowhere, None, "", nowhere, nowhere)


def test_two_are_downloaded_while_two_are_built(monkeypatch: pytest.MonkeyPatch) -> None:
    all_four = threading.Barrier(4)
    counting = threading.Lock()
    inside: Counter[str] = Counter()
    most: Counter[str] = Counter()

    numbers = itertools.count()

    def inside_of(stage: Stage, *, meet: bool) -> None:
        with counting:
            inside[stage] += 1
            most[stage] = max(most[stage], inside[stage])
        if meet:
            all_four.wait(PATIENCE)
        with counting:
            inside[stage] -= 1

    def bundle(spec: str, *, progress: Progress) -> Bundle:
        progress(Step(Stage.DOWNLOADING, "it"))
        with counting:
            number = next(numbers)
        # Meets the two behind it: 0 and 1 are built while 2 and 3 are downloaded, and so on.
        inside_of(Stage.DOWNLOADING, meet=number >= 2)
        progress(Step(Stage.BUILDING, "it"))
        inside_of(Stage.BUILDING, meet=number < 6)
        return made(spec)

    monkeypatch.setattr(room, "bundle", bundle)
    done = room.prepare(map(str, range(8)))
    assert [status.stage for status in done] == ["ready"] * 8
    assert most == {"downloading": 2, "building": 2}


def test_one_that_fails_gives_up_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    def bundle(spec: str, *, progress: Progress) -> Bundle:
        progress(Step(Stage.DOWNLOADING, "it"))
        if spec != "last":
            raise KernelError("the mirror is gone")
        return made(spec)

    monkeypatch.setattr(room, "bundle", bundle)
    done = room.prepare(["a", "b", "c", "d", "e", "last"])
    assert [status.stage for status in done] == ["failed"] * 5 + ["ready"]


def test_an_error_of_the_system_is_one_kernels_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def bundle(spec: str, *, progress: Progress) -> Bundle:
        progress(Step(Stage.DOWNLOADING, "it"))
        if spec == "a":
            raise PermissionError(13, "Permission denied", "/cache/x")
        return made(spec)

    monkeypatch.setattr(room, "bundle", bundle)
    done = room.prepare(["a", "b", "c"])
    assert [status.stage for status in done] == ["failed", "ready", "ready"]
    assert isinstance(done[0].error, HostError)
    assert done[0].error.message == "kernel 'a': /cache/x: Permission denied"


def test_the_wait_for_a_turn_is_no_part_of_a_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    def bundle(spec: str, *, progress: Progress) -> Bundle:
        progress("reading the index")
        progress(Step(Stage.DOWNLOADING, "it"))
        progress(Step(Stage.BUILDING, "it"))
        return made(spec)

    monkeypatch.setattr(room, "bundle", bundle)
    seen: list[str] = []
    room.prepare(["one"], on_change=lambda status: seen.append(status.stage))
    assert seen == ["waiting", "waiting", "downloading", "waiting", "building", "ready"]
