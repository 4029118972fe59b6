"""Entering and removing a root folder; busybox is all that is in this one."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from memtype_support.debian_root import entering, remove

from pytest_memtype.distribution.packing import busybox, packing_kit
from pytest_memtype.errors import HostError
from pytest_memtype.host.progress import silent

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a root folder is entered by root only")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    for name in ("bin", "dev", "proc", "sys", "usr/bin"):
        (folder / name).mkdir(parents=True)
    shutil.copy(busybox(packing_kit(progress=silent)), folder / "usr" / "bin" / "env")
    (folder / "bin" / "sh").symlink_to("/usr/bin/env")
    return folder


@needs_root
def test_nothing_of_this_host_is_seen_inside(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMTYPE_CACHE", "/of/this/host")
    script = "cd /; echo *; echo $$; echo $HOME; echo ${MEMTYPE_CACHE-none}; test -c /dev/null && echo device"
    before = Path("/proc/self/mountinfo").read_text()
    command = entering(root, ["sh", "-c", script])
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["bin dev proc sys usr", "1", "/root", "none", "device"]
    # What was mounted is gone with its last process.
    assert Path("/proc/self/mountinfo").read_text() == before
    remove(root)
    assert not root.exists()


@needs_root
def test_a_commands_status_is_told(root: Path) -> None:
    done = subprocess.run(entering(root, ["sh", "-c", "exit 7"]), capture_output=True, check=False)
    assert done.returncode == 7


def test_nothing_is_removed_where_something_is_mounted() -> None:
    """Such as what a host has at /dev."""
    with pytest.raises(HostError, match=r"^/proc: /proc.* is mounted there; unmount it first"):
        remove(Path("/proc"))
