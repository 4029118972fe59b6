"""The logs that a cluster's worker keeps: what is there, and what goes."""

from __future__ import annotations

import hashlib
import os
import zlib
from pathlib import Path

import pytest
from click.testing import CliRunner

from pytest_memtype.cli import main
from pytest_memtype.cluster import bootstrap
from pytest_memtype.run import kept_logs
from pytest_memtype.run.kept_logs import FOLDER, keep, trim

RUNS = ("20261129-101010-7", "20261129-101010-8")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path))
    return tmp_path / FOLDER


def _filled(store: Path) -> list[Path]:
    """Six files of 8 KiB on the disk, the oldest first, of two runs in turn."""
    files = []
    for number in range(6):
        run = RUNS[number % 2]
        files.append(store / run / keep(run, bytes([number]) * 8192))
        os.utime(files[-1], (1000 + number, 1000 + number))
    return files


def test_it_is_found_by_its_hash(store: Path) -> None:
    name = keep(RUNS[0], b'{"log": 1}\n{"log": 2}')
    assert name == hashlib.sha256(b'{"log": 1}\n{"log": 2}').hexdigest()
    assert (store / RUNS[0] / name).read_bytes() == b'{"log": 1}\n{"log": 2}'
    # Again is no error, and what a run that was killed has left isn't in the way.
    (store / "partial" / name).touch()
    assert keep(RUNS[0], b'{"log": 1}\n{"log": 2}') == name


def test_the_workers_own_part_knows_the_place(store: Path) -> None:
    name = keep(RUNS[0], b'{"log": 1}\n{"log": 2}')
    request = {"ask": "kept", "run": RUNS[0], "name": name}
    assert zlib.decompress(bootstrap.work(request, {})) == b'{"log": 1}\n{"log": 2}'
    store.chmod(0o777)
    assert b"others can write to it" in zlib.decompress(bootstrap.work(request, {}))
    store.chmod(0o700)
    trim(0)
    assert zlib.decompress(bootstrap.work(request, {})).startswith(b'{"lacks": ')


def test_the_oldest_go_first(store: Path) -> None:
    files = _filled(store)
    trim(48 << 10)
    assert all(path.exists() for path in files)
    trim(20 << 10)
    assert [path.exists() for path in files] == [False] * 4 + [True] * 2
    files[4].unlink()
    files[4].parent.rmdir()
    trim(0)
    assert [path.name for path in store.iterdir()] == ["lock"]


def test_nothing_is_made_where_nothing_is_kept(store: Path) -> None:
    trim(kept_logs.LIMIT)
    assert not store.exists()


def test_it_is_listed_pruned_and_removed_as_other_things_of_the_cache(store: Path) -> None:
    files = _filled(store)
    rows = CliRunner().invoke(main, ["cache"]).stdout.splitlines()
    assert [(row.split()[0], row.split()[3]) for row in rows[1:-1]] == [("evidence", run) for run in RUNS]
    assert CliRunner().invoke(main, ["cache", "prune", "--limit", "40K"]).exit_code == 0
    assert [path.exists() for path in files] == [False] + [True] * 5
    done = CliRunner().invoke(main, ["cache", "remove", RUNS[0]])
    assert done.stdout == f"removed evidence {RUNS[0]}, 0 MiB\n"
    assert [path.exists() for path in files] == [False, True] * 3
    assert CliRunner().invoke(main, ["cache", "prune"]).exit_code == 0
    assert not any(path.exists() for path in files)
