import json
import os
import shutil
from pathlib import Path

import broken_qemu
import pytest
from click.testing import CliRunner

from pytest_memtype import doctor
from pytest_memtype.cli import main
from pytest_memtype.doctor import Check, checks


def test_a_host_that_runs_this_suite_is_well() -> None:
    found = checks()
    assert [check.name for check in found if not check.ok] == []
    # How much of the disk is free is not the suite's to say.
    others = ("cache folder", "without a network")
    assert all(check.found and (not check.advice or check.name in others) for check in found)


def test_missing_programs_are_named_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    failed = {check.name: check for check in checks() if not check.ok}
    assert failed["QEMU"].advice == "install the package qemu-system-x86"
    assert failed["mmdebstrap"].advice == "install the package mmdebstrap"


@pytest.mark.parametrize(
    "wrong", ["status 127", "no version", "too old", "no bochs-display", "no description"]
)
def test_a_qemu_that_can_not_be_used_is_not_well(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path / "cache"))
    broken = broken_qemu.make(tmp_path / "bin", wrong)
    monkeypatch.setenv("PATH", str(broken.parent), prepend=os.pathsep)
    found = {check.name: check for check in checks()}
    qemu = found["QEMU"]
    assert not qemu.ok
    assert str(broken) in qemu.found
    # There is no guest whose memory could be read.
    assert "guest's memory" not in found
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
            {"name": "a", "ok": True, "found": "found", "advice": ""},
            {"name": "b", "ok": ok, "found": "found\x1b[31m", "advice": "advice"},
        ],
    }


def test_a_disk_that_templates_find_no_room_on_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path))
    usage = shutil.disk_usage(tmp_path)
    for free, advice in ((9 << 30, ""), (7 << 30, "templates anew each time"), (1 << 30, "free 2 GiB")):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: usage._replace(free=free))
        (cache,) = (check for check in checks() if check.name == "cache folder")
        assert cache.ok == (free > 2 << 30)
        assert (advice in cache.advice) if advice else not cache.advice


def test_an_empty_cache_is_not_ready_for_a_day_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path))
    (offline,) = (check for check in checks() if check.name == "without a network")
    assert offline.ok
    assert offline.found.startswith("no: no index")
    assert "memtype kernels fetch" in offline.advice


def test_a_cache_that_can_not_be_made_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path / "file" / "cache"))
    (cache,) = (check for check in checks() if check.name == "cache folder")
    assert not cache.ok
    assert "MEMTYPE_CACHE" in cache.advice
