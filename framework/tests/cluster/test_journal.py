"""The journal of a run on a cluster, as ``--resume`` finds it."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_memtype.cluster.journal import KEPT, NAME, Kept, kept_of, note_kept, noted, take_over_logs
from pytest_memtype.errors import UsageError


def test_a_run_without_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no cluster\.jsonl; name the folder of a run that had"):
        list(noted(tmp_path))


def test_a_pipe_in_its_place_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / NAME)
    with pytest.raises(UsageError, match=r"cluster\.jsonl: "):
        list(noted(tmp_path))


def test_something_else(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"\xff\n")
    with pytest.raises(UsageError, match=r"not a journal"):
        list(noted(tmp_path))
    (tmp_path / NAME).write_text("[1]\n")
    with pytest.raises(UsageError, match=r"cluster\.jsonl:1: "):
        list(noted(tmp_path))


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _kept(test: str, name: str) -> Kept:
    return Kept(test, "20261129-101010-7", _hash(name), "tls://192.0.2.1:7", "tls://192.0.2.1:8786")


def test_where_logs_are_is_found_again_by_a_run_that_goes_on(tmp_path: Path) -> None:
    earlier, later = tmp_path / "earlier", tmp_path / "later"
    for run in (earlier, later):
        run.mkdir()
        (run / NAME).touch()
    for kept in (_kept("a", "first"), _kept("b", "other"), _kept("a", "second")):
        note_kept(earlier, kept)
    with (earlier / KEPT).open("a") as file:
        file.write('{"test": "cut of')
    take_over_logs(later, earlier)
    note_kept(later, _kept("c", "third"))
    assert [kept_of(later, test).name for test in "abc"] == [
        _hash(name) for name in ("second", "other", "third")
    ]
    assert kept_of(later, "a") == kept_of(earlier, "a") == _kept("a", "second")


def test_of_a_run_without_a_cluster_nothing_is_kept(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"it ran on no cluster, .*; run the test again with --keep-logs"):
        kept_of(tmp_path, "a")


def test_a_damaged_note_is_named(tmp_path: Path) -> None:
    (tmp_path / NAME).touch()
    (tmp_path / KEPT).write_text(json.dumps({"test": "a", "run": "x"}) + "\n")
    with pytest.raises(UsageError, match=r"kept-logs\.jsonl:1: 'name'; name a run of memtype's own"):
        kept_of(tmp_path, "a")


@pytest.mark.parametrize("field", ["run", "name"])
def test_a_name_that_no_logs_have(tmp_path: Path, field: str) -> None:
    """They are looked for in the cache by both: a run's folder may be anybody's."""
    (tmp_path / NAME).touch()
    note_kept(tmp_path, replace(_kept("a", "it"), **{field: "../../../etc/passwd"}))
    with pytest.raises(UsageError, match=r"kept-logs\.jsonl:1: no run's logs have such a name"):
        kept_of(tmp_path, "a")
