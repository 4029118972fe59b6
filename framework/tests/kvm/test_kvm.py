"""KVM, on every landing: a few tests of the suite in the outer guest, and the same under TCG.

``tox -e kvm`` does it with ten times as many.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import pytest
from memtype_support.kvm import kvm_run, outer_guest, outer_image
from memtype_support.kvm.kvm_command import compare, complaints
from memtype_support.kvm.kvm_run import LANDING, Held, Ran, counts, hold
from memtype_support.kvm.outer_guest import NEEDED_MEMORY, Done, Livelock, Outer, memory_problem

from pytest_memtype.commands.compare_kernels import Comparison
from pytest_memtype.errors import HostError
from pytest_memtype.machine.machine import Machine
from pytest_memtype.report.compare import Change

_SECONDS = 1500.0

#: Clones of a template made before, and a layout's with a template of its own.
_LEAST = 8


# The outer guest's image and template may have to be built first; this bounds a host that others use, too.
@pytest.mark.timeout(3 * _SECONDS)
@pytest.mark.xdist_group("kvm")
def test_records_on_kvm_are_those_under_tcg(tmp_path: Path) -> None:
    problem = memory_problem()
    if problem is not None:
        pytest.skip(problem)
    held = hold(LANDING, tmp_path / "held", timeout=_SECONDS, progress=print)
    print(held.kvm.output)
    assert complaints(held, least=_LEAST) == []
    assert "boot, because" not in held.kvm.records.read_text()
    assert '"accelerator":"kvm"' in held.kvm.records.read_text()
    assert "page tables audited after" in held.kvm.output


def test_a_host_without_the_memory_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full host ends other programs than the one that filled it."""
    assert memory_problem(NEEDED_MEMORY) is None
    monkeypatch.setattr(outer_guest, "available_memory", lambda: 4 << 30)
    with pytest.raises(
        HostError, match=r"^the outer guest takes 6 GiB of memory, and 4\.0 GiB are available"
    ):
        hold(LANDING, tmp_path / "held", timeout=_SECONDS, progress=print)
    assert not (tmp_path / "held").exists()


def test_a_comparison_that_fails_is_one_line(tmp_path: Path) -> None:
    ran = replace(RAN, records=tmp_path / "none")
    with pytest.raises(HostError, match="memtype compare ended with status 2 and without an answer"):
        compare(replace(FINE, kvm=ran, tcg=ran))


def test_what_takes_too_long_is_one_line() -> None:
    with pytest.raises(HostError, match=r"^sleeping took more than 0 s; is the host busy\?$"):
        kvm_run.on_this_host(["sleep", "60"], what="sleeping", timeout=0.1)


# What the above is judged by.

RAN = Ran({"passed": 8}, Path("records.jsonl"), 1.0, "accelerator: kvm (asked for)")
FINE = Held(RAN, RAN, Comparison(("KVM", "TCG"), (), ()))


def test_nothing_is_wrong_with_the_same_records() -> None:
    assert complaints(FINE, least=8) == []


def test_a_device_that_qemu_does_not_save_is_no_failed_clone() -> None:
    booted = "accelerator: kvm\n2 tests ran on a boot, because QEMU doesn't save the state of edu\n"
    assert complaints(replace(FINE, kvm=replace(RAN, output=booted)), least=8) == []


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (replace(FINE, kvm=replace(RAN, counts={"passed": 7})), "KVM has {'passed': 7}, TCG {'passed': 8}"),
        (replace(FINE, kvm=replace(RAN, counts={"passed": 7})), "KVM: 7 passed, fewer than 8"),
        (replace(FINE, tcg=replace(RAN, counts={"passed": 8, "failed": 1})), "TCG: {'failed': 1}"),
        (replace(FINE, kvm=replace(RAN, counts={"passed": 8, "error": 2})), "KVM: {'error': 2}"),
        (replace(FINE, kvm=replace(RAN, output="accelerator: tcg")), "KVM: it wasn't KVM that ran"),
        (
            replace(
                FINE,
                kvm=replace(RAN, output="accelerator: kvm\n2 tests ran on a boot, because a clone failed"),
            ),
            "KVM: tests ran on a boot, because a clone failed",
        ),
        (
            replace(FINE, comparison=Comparison(("KVM", "TCG"), (Change("ioremap WC", ("WC", "UC-")),), ())),
            "ioremap WC: ('WC', 'UC-')",
        ),
        (
            replace(FINE, comparison=Comparison(("KVM", "TCG"), (), (), partly=3)),
            "3 tests have records under one of them only",
        ),
    ],
)
def test_each_fault_is_told(held: Held, said: str) -> None:
    assert said in complaints(held, least=8)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("===== 6 passed, 117 deselected in 3.08s =====", {"passed": 6}),
        (
            "== 1 failed, 2 passed, 3 skipped, 1 error in 63.08s (0:01:03) ==",
            {"failed": 1, "passed": 2, "skipped": 3, "error": 1},
        ),
        ("== 2 errors in 1s ==", {"error": 2}),
        ("Killed", {}),
    ],
)
def test_figures_of_the_last_line(line: str, found: dict[str, int]) -> None:
    assert counts(f"=== test session starts ===\n{line}\n") == found


def test_each_input_changes_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = outer_image.digest()
    assert outer_image.digest() == before
    monkeypatch.setattr(outer_image, "_PACKAGES", ("base-files",))
    packages = outer_image.digest()
    (tmp_path / "run.txt").write_text(f"{outer_image.LOCK.read_text()}\npytest-randomly==1\n")
    monkeypatch.setattr(outer_image, "LOCK", tmp_path / "run.txt")
    assert len({before, packages, outer_image.digest()}) == 3


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All that pip finds: two versions of one package. The file that it returns is the lock."""
    for version in ("1.0", "2.0"):
        with zipfile.ZipFile(tmp_path / f"needed-{version}-py3-none-any.whl", "w") as wheel:
            facts = f"needed-{version}.dist-info"
            wheel.writestr("needed.py", f"VERSION = {version!r}\n")
            wheel.writestr(f"{facts}/METADATA", f"Metadata-Version: 2.1\nName: needed\nVersion: {version}\n")
            wheel.writestr(f"{facts}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{facts}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setattr(outer_image, "LOCK", tmp_path / "run.txt")
    return tmp_path / "run.txt"


def _locked(lock: Path, *, of: str) -> None:
    """Name version 1.0 with the hash of a version."""
    wheel = (lock.parent / f"needed-{of}-py3-none-any.whl").read_bytes()
    lock.write_text(f"needed==1.0 --hash=sha256:{hashlib.sha256(wheel).hexdigest()}\n")


def test_the_image_has_the_versions_of_the_lock(index: Path, tmp_path: Path) -> None:
    _locked(index, of="1.0")
    outer_image.install_dependencies(tmp_path / "site")
    assert (tmp_path / "site" / "needed.py").read_text() == "VERSION = '1.0'\n"


def test_what_the_lock_has_no_hash_of_is_refused(index: Path, tmp_path: Path) -> None:
    _locked(index, of="2.0")
    with pytest.raises(HostError) as caught:
        outer_image.install_dependencies(tmp_path / "site")
    assert "HASH" in "".join(caught.value.details).upper()
    assert not (tmp_path / "site" / "needed.py").exists()


def test_the_two_latest_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path))
    for age, name in enumerate(("outer-a", "outer-b", "outer-c", "template-a")):
        (tmp_path / "kvm" / name).mkdir(parents=True)
        os.utime(tmp_path / "kvm" / name, (1000 - age, 1000 - age))
    place = tmp_path / "work"
    place.mkdir()
    outer_image.keep_latest("outer-*", place=place)
    assert {each.name for each in (tmp_path / "kvm").iterdir()} == {"outer-a", "outer-b", "template-a"}


def shown(rip: int, flags: int = 0x2, halted: int = 0) -> str:
    return f"RIP={rip:016x} RFL={flags:08x} [-------] CPL=0 II=0 A20=1 SMM=0 HLT={halted}\n"


@pytest.mark.parametrize(
    ("registers", "spins"),
    [
        ([shown(0xFFFFFFFFA6018710)], True),
        ([shown(0xFFFFFFFFA6018710), shown(0xFFFFFFFFA6018712)], True),
        ([shown(0xFFFFFFFFA6018710), shown(0xFFFFFFFFA6028710)], False),
        # Waits for an interrupt, for as long as it may take.
        ([shown(0xFFFFFFFFA6018710, halted=1)], False),
        ([shown(0xFFFFFFFFA6018710, flags=0x246)], False),
        (["no registers"], False),
    ],
)
def test_a_livelock_is_told_from_waiting(registers: list[str], spins: bool) -> None:
    looks = itertools.cycle(registers)

    class Control:
        def execute(self, command: str, arguments: dict[str, str]) -> str:
            assert (command, arguments) == ("human-monitor-command", {"command-line": "info registers"})
            return next(looks)

    class Stub:
        qmp = Control()

    assert Outer(cast(Machine, Stub()))._spins() is spins


@dataclass
class Scripted:
    """Stands for the outer guest: hangs so many times before each portion's tests pass."""

    hangs: int
    hung: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def start(self, _name: str) -> Iterator[Outer]:
        yield cast(Outer, self)

    def test(self, tests: list[str], *, timeout: float) -> Done:
        assert timeout > 0
        if self.hung[tests[0]] < self.hangs:
            self.hung[tests[0]] += 1
            raise Livelock("it spins")
        return Done(0, f"PASSED\n=== {len(tests)} passed in 1s ===\n", 2.0)

    def read(self, _pattern: str) -> bytes:
        return b"record\n"


def test_a_livelock_is_told_and_its_portion_run_again(tmp_path: Path) -> None:
    said: list[str] = []
    parts = kvm_run.portions([f"test_{number}" for number in range(30)])
    assert [len(part) for part in parts] == [25, 5]
    ran = kvm_run._on_kvm(Scripted(1).start, parts, tmp_path / "kvm", 60, said.append)
    assert (ran.counts, ran.livelocks, ran.seconds) == ({"passed": 30}, 2, 4.0)
    assert ran.records.read_text() == "record\n" * 2
    assert "it spins (2 times so far); the portion is run again" in said


def test_one_hang_in_each_portion_of_many_ends_nothing(tmp_path: Path) -> None:
    parts = [[f"test_{number}"] for number in range(9)]
    ran = kvm_run._on_kvm(Scripted(1).start, parts, tmp_path / "kvm", 60, lambda _: None)
    assert (ran.counts, ran.livelocks) == ({"passed": 9}, 9)


def test_livelocks_without_end_are_a_fault(tmp_path: Path) -> None:
    with pytest.raises(Livelock):
        kvm_run._on_kvm(Scripted(9).start, [["test"]], tmp_path / "kvm", 60, lambda _: None)
