import shutil
from pathlib import Path

import pytest

from pytest_memtype.doctor import checks


def test_a_host_that_runs_this_suite_is_well() -> None:
    found = checks()
    assert [check.name for check in found if not check.ok] == []
    # How much of the disk is free is not the suite's to say.
    assert all(check.found and (not check.advice or check.name == "cache folder") for check in found)


def test_missing_programs_are_named_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    failed = {check.name: check for check in checks() if not check.ok}
    assert failed["QEMU"].advice == "install the package qemu-system-x86"
    assert failed["mmdebstrap"].advice == "install the package mmdebstrap"


def test_a_program_that_does_not_run_is_not_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "qemu-system-x86_64"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (qemu,) = (check for check in checks() if check.name == "QEMU")
    assert not qemu.ok
    assert str(broken) in qemu.found


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


def test_a_cache_that_can_not_be_made_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path / "file" / "cache"))
    (cache,) = (check for check in checks() if check.name == "cache folder")
    assert not cache.ok
    assert "MEMTYPE_CACHE" in cache.advice
