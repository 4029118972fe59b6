"""The part that runs inside a Dask worker, without one."""

from __future__ import annotations

import fcntl
import json
import os
import re
import zlib
from pathlib import Path

import pytest
from click.testing import CliRunner

from pytest_memtype.cli import main
from pytest_memtype.cluster import bootstrap, luggage
from pytest_memtype.run.cache import remove

# Any user but root and the one who runs this.
STRANGER = 65533


def answer(cache: Path, monkeypatch: pytest.MonkeyPatch, **luggage: bytes) -> str:
    """What a worker says of a request that names a package it wasn't sent."""
    monkeypatch.setenv("MEMTYPE_CACHE", str(cache))
    (line,) = zlib.decompress(bootstrap.work({"package": "none"}, luggage)).splitlines()
    return str(json.loads(line)["unable"])


def test_a_cache_of_ones_own_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert answer(tmp_path / "above" / "cache", monkeypatch) == "KeyError: 'none'"
    for folder in (
        tmp_path / "above",
        tmp_path / "above" / "cache",
        tmp_path / "above" / "cache" / "cluster",
    ):
        assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("place", [".", "cluster"])
@pytest.mark.parametrize("mode", [0o777, 0o757])
def test_one_that_others_can_write_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, mode: int
) -> None:
    (tmp_path / "cluster").mkdir(mode=0o700)
    (tmp_path / place).chmod(mode)
    assert answer(tmp_path, monkeypatch).startswith(
        f"PermissionError: {(tmp_path / place).resolve()}: others can write to it; "
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_a_strangers_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cluster").mkdir(mode=0o700)
    os.chown(tmp_path / "cluster", STRANGER, -1)
    assert f"belongs to user {STRANGER}" in answer(tmp_path, monkeypatch)


def test_what_it_was_sent_is_listed_and_can_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(bytes(3 << 20))
    piece = luggage.packed({"file": tmp_path / "file"})
    cache = tmp_path / "cache"
    for _ in range(2):
        assert answer(cache, monkeypatch, **{piece.name: piece.data}) == "KeyError: 'none'"
        (entry,) = [path for path in (cache / "cluster").iterdir() if path.is_dir()]
        listed = CliRunner().invoke(main, ["cache"]).stdout
        assert re.search(rf"^ *cluster .* {entry.name} +3 *$", listed, re.MULTILINE), listed
        removed = CliRunner().invoke(main, ["cache", "remove", entry.name])
        assert removed.stdout == f"removed cluster {entry.name}, 3 MiB\n"
        assert [path.name for path in (cache / "cluster").iterdir()] == ["lock"]


def test_what_is_being_unpacked_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path))
    (tmp_path / "cluster" / "sent").mkdir(parents=True)
    with (tmp_path / "cluster" / "lock").open("w") as lock:
        # As a worker does.
        fcntl.flock(lock, fcntl.LOCK_EX)

        def unlock(_: str) -> None:
            assert (tmp_path / "cluster" / "sent").exists()
            fcntl.flock(lock, fcntl.LOCK_UN)

        assert [entry.name for entry in remove(("sent",), progress=unlock)] == ["sent"]
    assert not (tmp_path / "cluster" / "sent").exists()
