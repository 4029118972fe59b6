"""The journal of a run on a cluster, as ``--resume`` finds it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_memtype.cluster.journal import NAME, noted
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
