"""The part that runs inside a Dask worker, without one."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path

import pytest

from pytest_memtype.cluster import bootstrap

# Any user but root and the one who runs this.
STRANGER = 65533


def answer(cache: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a worker says of a request that names a package it wasn't sent."""
    monkeypatch.setenv("MEMTYPE_CACHE", str(cache))
    (line,) = zlib.decompress(bootstrap.work({"package": "none"}, {})).splitlines()
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
