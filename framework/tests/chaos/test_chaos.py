"""Faults at random in a running suite: no wrong record, nothing left, and what was damaged is made again.

``MEMTYPE_CHAOS_FAULTS`` is how many, others each time (``tox -e chaos``: 1,000), and ``MEMTYPE_CHAOS_SEED``
repeats a run. Without them there are 60, always the same: a landing is not to turn red by faults that nobody
has seen.
"""

from __future__ import annotations

import os
import random
import secrets
import shutil
from pathlib import Path
from typing import Any

import pytest
from memtype_support import mounts
from memtype_support.chaos_run import KINDS, Round, count, damage, planned, wrong
from memtype_support.chaos_suite import TESTS

from pytest_memtype.host.progress import silent
from pytest_memtype.host.resources import cache_directory
from pytest_memtype.host.store import is_whole
from pytest_memtype.kernels.bundle import Bundle, bundle
from pytest_memtype.kernels.sandbox import bwrap_problem

FAULTS = int(os.environ.get("MEMTYPE_CHAOS_FAULTS", "60"))
SEED = int(
    os.environ.get("MEMTYPE_CHAOS_SEED")
    or (secrets.randbelow(1 << 32) if "MEMTYPE_CHAOS_FAULTS" in os.environ else 936009992)
)

OF_A_TEMPLATE = ("ram", "state", "template.json", "logs/console.log")
OF_A_BUNDLE = ("image", "initramfs.cpio", "launcher.so", "agent", "memtype.ko")


def own_cache(folder: Path, made: Bundle) -> Path:
    """A cache with a copy of one kernel's bundle, and the kit to build it again, which is only read."""
    for name in ("bundles", "kits", "templates"):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o700)
    shutil.copytree(made.directory, folder / "bundles" / made.directory.name)
    (folder / "kits" / made.kit.name).symlink_to(made.kit)
    index = cache_directory() / "index"
    if index.is_dir():
        shutil.copytree(index, folder / "index")
    return folder


class Chaos:
    """All rounds, on one cache."""

    def __init__(self, folder: Path, made: Bundle, *, may_mount: bool) -> None:
        self.folder = folder
        self.may_mount = may_mount
        self.cache = own_cache(folder / "cache", made)
        self.bundle = self.cache / "bundles" / made.directory.name
        self.kernel = f"debian:{made.release}"
        # Without bubblewrap a build writes into the kit, which isn't ours.
        self.may_build = made.kit.is_dir() and bwrap_problem() is None
        self.rounds: list[Round] = []
        self.damaged = 0
        undisturbed = self._round({}, workers=0)
        undisturbed.run()
        self.good = undisturbed.records()
        assert {outcome for outcome, _ in undisturbed.outcomes().values()} == {"passed"}, undisturbed.output
        assert sorted(self.good) == list(range(TESTS))
        assert wrong(undisturbed, self.good) == []

    @property
    def faults(self) -> int:
        return sum(len(each.made) for each in self.rounds) + self.damaged

    def _round(self, plan: dict[tuple[int, int], str], *, workers: int, **rest: Any) -> Round:
        number = len(self.rounds)
        return Round(
            *(self.folder / f"{number}", self.cache, self.kernel, workers, plan),
            seed=SEED + number,
            **rest,
        )

    def one(self) -> list[str]:
        """One more round: what is wrong with it."""
        number = len(self.rounds) + 1
        chance = random.Random(f"{SEED} {number}")
        if number % 12 == 3 and self.may_mount:
            # A disk without room for a template: all is booted.
            one = self._round({}, workers=0, only=f"{number % TESTS}]", small_disk=True)
            self.damaged += 1
        else:
            workers = chance.choice((0, 2, 2))
            one = self._round(planned(chance, workers=workers), workers=workers, before=self._damage(chance))
        self.rounds.append(one)
        one.folder = self.folder / f"{number}"
        one.run()
        return [f"round {number}: {each}" for each in wrong(one, self.good)]

    def _damage(self, chance: random.Random) -> tuple[str, ...]:
        """Damage what the round will use, and what has to be said of it."""
        said = []
        templates = sorted(self.cache.glob("templates/*/ready"))
        if self.may_build and chance.random() < 0.12:
            damage(self.bundle / chance.choice(OF_A_BUNDLE), chance)
            said.append(f"{self.bundle.name} is damaged, and made again")
        elif templates and chance.random() < 0.4:
            damage(chance.choice(templates) / chance.choice(OF_A_TEMPLATE), chance)
            said.append("a template is damaged, and made again")
        self.damaged += len(said)
        return tuple(said)


@pytest.mark.timeout(120 + 20 * FAULTS)
def test_chaos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # No test runs without it, and it may have to be built first.
    made = bundle("debian:bookworm")
    with capsys.disabled():
        print(f"\nchaos: {FAULTS} faults, MEMTYPE_CHAOS_SEED={SEED}")
    refused = mounts.refusal()
    chaos = Chaos(tmp_path, made, may_mount=refused is None)
    found: list[str] = []
    while chaos.faults < FAULTS and not found:
        found = chaos.one()
    assert found == [], f"MEMTYPE_CHAOS_SEED={SEED}: {tmp_path}"
    assert is_whole(chaos.bundle, silent)
    # A run that nobody disturbs finds all well again.
    last = chaos._round({}, workers=2)
    last.folder = tmp_path / "last"
    last.run()
    assert wrong(last, chaos.good) == []
    assert {outcome for outcome, _ in last.outcomes().values()} == {"passed"}, last.output
    with capsys.disabled():
        print(
            f"chaos: {chaos.faults} faults in {len(chaos.rounds)} runs, {chaos.damaged} of them before a run"
        )
        if refused is not None:
            print(f"chaos: no run on a full disk, since this host allows no mounts of one's own: {refused}")
        for name, number in sorted(count(chaos.rounds).items()):
            print(f"chaos: {number:4} {name}")
    assert set(count(chaos.rounds)) <= set(KINDS)
