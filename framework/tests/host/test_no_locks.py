"""File systems without locks: each lock that is taken on one ends in one line."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from pytest_memtype.cli import main
from pytest_memtype.commands.mutate import _alone as alone_at_mutants
from pytest_memtype.errors import HostError
from pytest_memtype.host.no_locks import locking
from pytest_memtype.host.progress import silent
from pytest_memtype.host.store import exclusive, exclusive_if_free
from pytest_memtype.machine.accelerator import _alone as alone_at_kvm


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        # As of NFS whose server has no lock daemon.
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.mark.usefixtures("without_locks")
def test_a_lock_names_its_file_and_what_to_do(tmp_path: Path) -> None:
    why = r"lock: this file system has no locks \(No locks available\); set MEMTYPE_CACHE to a folder on"
    with pytest.raises(HostError, match=why), exclusive(tmp_path, silent):
        pass
    with pytest.raises(HostError, match=why), exclusive_if_free(tmp_path):
        pass
    with pytest.raises(HostError, match=why), alone_at_kvm(tmp_path):
        pass
    with pytest.raises(HostError, match="with --work"), alone_at_mutants(tmp_path):
        pass


@pytest.mark.usefixtures("without_locks")
def test_a_command_ends_with_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path))
    (tmp_path / "kits" / "6.1.0-50-cloud-amd64-0123").mkdir(parents=True)
    done = CliRunner().invoke(main, ["kernels", "remove", "6.1.0-50-cloud-amd64"])
    assert done.exit_code == HostError.exit_status
    assert "lock: this file system has no locks (No locks available); set MEMTYPE_CACHE" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_exception_of_filelocks_own(tmp_path: Path) -> None:
    with (
        pytest.raises(HostError, match="lock: this file system has no locks; set"),
        locking(tmp_path / "lock"),
    ):
        raise NotImplementedError("FileSystem does not appear to support flock")


def test_other_faults_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), locking(tmp_path / "lock"):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
