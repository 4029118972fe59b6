"""The kernel's checkpatch.pl in lint: which files it is given, what it finds, and when it is left out."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from memtype_support import checkpatch
from memtype_support.checkpatch import ROOMS, SCRIPT, Room, check, main, perl, script
from memtype_support.kernel_scripts import LeftOutError

from pytest_memtype.host.resources import guest_sources


def test_every_c_file_is_checked() -> None:
    given = [path for room in ROOMS for path in room.files()]
    assert len(given) == len(set(given))
    sources = {path for path in guest_sources().rglob("*.[ch]") if not path.name.endswith(".mod.c")}
    # These stand in for the kernel's own headers.
    left_out = {path.relative_to(guest_sources() / "verifier_host").parts[0] for path in sources - set(given)}
    assert left_out == {"include", "mtrr"}


def test_offline_it_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path))
    monkeypatch.setenv("MEMTYPE_OFFLINE", "1")
    monkeypatch.setattr(checkpatch, "perl", lambda: "perl")
    done = CliRunner().invoke(main)
    assert done.exit_code == 0
    assert done.stdout.startswith(f"{SCRIPT} is left out: the kernel's sources: not in the cache, and ")
    assert done.stderr == ""


def test_without_perl_it_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = CliRunner().invoke(main)
    assert (done.exit_code, done.stdout) == (0, f"{SCRIPT} is left out: perl is not installed\n")


def test_a_perl_without_its_modules_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub = tmp_path / "perl"
    stub.write_text("#!/bin/sh\nexit 2\n")
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LeftOutError, match="install the package perl"):
        perl()


def test_faults_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the script that the cache has, if any: the network is lint's, not this test's."""
    monkeypatch.setenv("MEMTYPE_OFFLINE", "1")
    try:
        program, path = perl(), script()
    except LeftOutError as error:
        pytest.skip(str(error))
    room = tmp_path / "room"
    room.mkdir()
    monkeypatch.setattr(checkpatch, "guest_sources", lambda: tmp_path)
    header = "// SPDX-License-Identifier: GPL-2.0 OR MIT\n"
    (room / "fault.c").write_text(
        header + "int fault_run(int more)\n{\n\tif( more )\n\t\treturn 1;\n\treturn 0;\n}\n"
    )
    said = check(program, path, Room(("room",), {}))
    assert said.startswith("guests/room/fault.c:4: ERROR:SPACING: ")
    assert check(program, path, Room(("room",), {"SPACING": "a test"})) == ""
