import json
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from memtype_support import broken_qemu

from pytest_memtype.cli import main
from pytest_memtype.commands import doctor
from pytest_memtype.commands.doctor import Check, checks
from pytest_memtype.machine import qemu_versions
from pytest_memtype.machine.template_store import RESERVE, SUITE


def complaints(found: list[Check]) -> list[Check]:
    """What of a host that runs this suite isn't as it should be.

    A newer QEMU than was tested, and how much memory and disk are free at the moment, are not the suite's to
    say: they may be well or not, with advice or without.
    """
    unbound = ("QEMU", "cache folder", "without a network", "memory")
    return [
        check
        for check in found
        if not (check.ok or not check.needed or check.name == "memory") or not check.found
    ] + [check for check in found if check.ok and check.advice and check.name not in unbound]


def test_a_host_that_runs_this_suite_is_well() -> None:
    assert complaints(checks()) == []


def test_a_busy_host_with_a_new_qemu_is_no_fault_of_the_suite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path / "cache"))
    newer = broken_qemu.make(tmp_path / "bin", "newer")
    monkeypatch.setenv("PATH", str(newer.parent), prepend=os.pathsep)
    monkeypatch.setattr(doctor, "available_memory", lambda: 1 << 30)
    found = checks()
    (memory,) = (check for check in found if check.name == "memory")
    assert not memory.ok
    assert memory.advice
    assert complaints(found) == []


def test_missing_programs_are_named_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    failed = {check.name: check for check in checks() if not check.ok}
    assert failed["QEMU"].advice == "install the package qemu-system-x86"
    assert failed["mmdebstrap"].advice == "install the package mmdebstrap"


@pytest.mark.parametrize(
    "wrong", ["status 127", "no version", "too old", "no bochs-display", "no description", "no answer"]
)
def test_a_qemu_that_can_not_be_used_is_not_well(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path / "cache"))
    broken = broken_qemu.make(tmp_path / "bin", wrong)
    monkeypatch.setenv("PATH", str(broken.parent), prepend=os.pathsep)
    monkeypatch.setattr(qemu_versions, "_SECONDS", 2.0 if wrong == "no answer" else 30.0)
    found = {check.name: check for check in checks()}
    qemu = found["QEMU"]
    assert not qemu.ok
    # What can't be looked at isn't well either.
    assert not found["guest's memory"].ok
    assert str(broken) in qemu.found
    assert "\n" not in qemu.found + qemu.advice


def test_a_confined_qemu_is_well_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path / "cache"))
    confined = broken_qemu.make(tmp_path / "bin", "confined")
    monkeypatch.setenv("PATH", str(confined.parent), prepend=os.pathsep)
    found = {check.name: check for check in checks()}
    assert found["QEMU"].ok
    assert found["QEMU"].advice.startswith("nothing can be cloned")
    assert found["guest's memory"].found == "read from outside"


def test_a_newer_qemu_than_was_tested_is_well_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path / "cache"))
    newer = broken_qemu.make(tmp_path / "bin", "newer")
    monkeypatch.setenv("PATH", str(newer.parent), prepend=os.pathsep)
    (qemu,) = (check for check in checks() if check.name == "QEMU")
    assert qemu.ok, qemu.found
    assert "newer than those tested (7.2, 10.0, 11.1)" in qemu.found
    assert qemu.advice


@pytest.mark.parametrize("ok", [True, False])
def test_json_for_machines(monkeypatch: pytest.MonkeyPatch, *, ok: bool) -> None:
    found = [Check("a", True, "found"), Check("b", ok, "found\x1b[31m", "advice")]
    monkeypatch.setattr(doctor, "checks", lambda: found)
    done = CliRunner().invoke(main, ["doctor", "--json"])
    assert done.exit_code == (0 if ok else 3)
    (line,) = done.output.splitlines()
    assert json.loads(line) == {
        "ok": ok,
        "checks": [
            {"name": "a", "ok": True, "found": "found", "advice": "", "needed": True},
            {"name": "b", "ok": ok, "found": "found\x1b[31m", "advice": "advice", "needed": True},
        ],
    }


def test_what_can_not_be_built_is_not_ok_and_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(doctor, "namespace_problem", lambda: "user namespaces are not allowed; allow them")
    images = doctor._namespaces()
    assert (images.ok, images.needed) == (False, False)
    assert images.advice == "user namespaces are not allowed; allow them"
    monkeypatch.setattr(doctor, "checks", lambda: [images])
    done = CliRunner().invoke(main, ["doctor"])
    assert done.exit_code == 0
    assert done.output.splitlines()[-1].split()[0] == "part"


def test_a_disk_that_templates_find_no_room_on_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path))
    usage = shutil.disk_usage(tmp_path)
    enough, gib = SUITE + RESERVE, 1 << 30
    for free, advice in (
        (enough + gib, ""),
        (enough - gib, "templates anew each time"),
        (gib, "free 2 GiB"),
    ):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: usage._replace(free=free))
        (cache,) = (check for check in checks() if check.name == "cache folder")
        assert cache.ok == (free > 2 * gib)
        assert (advice in cache.advice) if advice else not cache.advice


def test_an_empty_cache_is_not_ready_for_a_day_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path))
    (offline,) = (check for check in checks() if check.name == "without a network")
    # Guests run all the same, so that it isn't a fault of the host.
    assert (offline.ok, offline.needed) == (False, False)
    assert offline.found.startswith("no: no index")
    assert "memtype kernels fetch" in offline.advice


def test_a_cache_that_can_not_be_made_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path / "file" / "cache"))
    (cache,) = (check for check in checks() if check.name == "cache folder")
    assert not cache.ok
    assert "MEMTYPE_CACHE" in cache.advice
