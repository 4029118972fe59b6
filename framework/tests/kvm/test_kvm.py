"""KVM, on every landing: a few tests of the suite in the outer guest, and the same under TCG.

``tox -e kvm`` does it with ten times as many.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import outer_image
import pytest
from kvm_command import complaints
from kvm_run import LANDING, Held, Ran, counts, hold

from pytest_memtype.comparison import Comparison
from pytest_memtype.report.compare import Change

_SECONDS = 1500.0

#: Clones of a template made before, and a layout's with a template of its own.
_LEAST = 8


# The outer guest's image and template may have to be built first; this bounds a host that others use, too.
@pytest.mark.timeout(3 * _SECONDS)
@pytest.mark.xdist_group("kvm")
def test_records_on_kvm_are_those_under_tcg(tmp_path: Path) -> None:
    held = hold(LANDING, tmp_path / "held", timeout=_SECONDS, progress=print)
    print(held.kvm.output)
    assert complaints(held, least=_LEAST) == []
    assert "boot, because" not in held.kvm.records.read_text()
    assert '"accelerator":"kvm"' in held.kvm.records.read_text()
    assert "page tables audited after" in held.kvm.output


# What the above is judged by.

RAN = Ran({"passed": 8}, Path("records.jsonl"), 1.0, "accelerator: kvm (asked for)")
FINE = Held(RAN, RAN, Comparison(("KVM", "TCG"), (), ()))


def test_nothing_is_wrong_with_the_same_records() -> None:
    assert complaints(FINE, least=8) == []


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (replace(FINE, kvm=replace(RAN, counts={"passed": 7})), "KVM has {'passed': 7}, TCG {'passed': 8}"),
        (replace(FINE, kvm=replace(RAN, counts={"passed": 7})), "KVM: 7 passed, fewer than 8"),
        (replace(FINE, tcg=replace(RAN, counts={"passed": 8, "failed": 1})), "TCG: {'failed': 1}"),
        (replace(FINE, kvm=replace(RAN, counts={"passed": 8, "error": 2})), "KVM: {'error': 2}"),
        (replace(FINE, kvm=replace(RAN, output="accelerator: tcg")), "KVM: it wasn't KVM that ran"),
        (
            replace(FINE, kvm=replace(RAN, output="accelerator: kvm\n2 tests ran on a boot, because")),
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


def test_each_input_changes_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    before = outer_image.digest()
    assert outer_image.digest() == before
    monkeypatch.setattr(outer_image, "_PACKAGES", ("base-files",))
    packages = outer_image.digest()
    monkeypatch.setattr(outer_image, "dependencies", lambda: ["pytest>=9"])
    assert len({before, packages, outer_image.digest()}) == 3


def test_the_two_latest_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path))
    for age, name in enumerate(("outer-a", "outer-b", "outer-c", "template-a")):
        (tmp_path / "kvm" / name).mkdir(parents=True)
        os.utime(tmp_path / "kvm" / name, (1000 - age, 1000 - age))
    place = tmp_path / "work"
    place.mkdir()
    outer_image.keep_latest("outer-*", place=place)
    assert {each.name for each in (tmp_path / "kvm").iterdir()} == {"outer-a", "outer-b", "template-a"}
