"""Tests that mount something for themselves are skipped where the host doesn't let them, with its reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from memtype_support import mounts


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'unshare: unshare failed: Operation not permitted' >&2; exit 1", "Operation not permitted"),
        # The namespace may be had, and no mount in it (as AppArmor has it on Ubuntu 24.04).
        (
            "shift; mount() { echo 'mount: /tmp: permission denied.' >&2; exit 32; }; mount",
            "permission denied",
        ),
        ("exit 1", "status 1"),
    ],
)
def test_a_refusal_skips_with_what_the_host_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    (tmp_path / "unshare").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "unshare").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(
        pytest.skip.Exception, match=f"allows no mounts of one's own: unshare -rm: .*{reason}"
    ):
        mounts.require()


def test_a_host_without_the_program_skips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(pytest.skip.Exception, match=r"allows no mounts of one's own: .*unshare"):
        mounts.require()


def test_where_it_can_be_done_nothing_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "unshare").write_text("#!/bin/sh\n")
    (tmp_path / "unshare").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    mounts.require()
