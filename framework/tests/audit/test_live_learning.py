"""Whom a QEMU of somebody else's is learned from as."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_memtype.audit import live
from pytest_memtype.errors import UsageError

NOBODY = 65534

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")


@contextmanager
def process_of(*command: str) -> Iterator[int]:
    with subprocess.Popen([*command, "sh", "-c", "echo; exec sleep 600"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        yield process.pid
        process.kill()


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """As /proc/PID/exe is: a link to a program."""
    link = tmp_path / "exe"
    link.symlink_to("/usr/bin/id")
    return link


def user_of(command: list[str]) -> str:
    return subprocess.run([*command, "-u"], capture_output=True, text=True, check=True).stdout.strip()


@needs_root
@pytest.mark.parametrize(
    "place", [(), ("unshare", "--mount")], ids=["our namespace", "a namespace of its own"]
)
def test_root_runs_it_as_its_user(program: Path, place: tuple[str, ...]) -> None:
    with process_of(*place, "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups") as pid:
        assert user_of(live._beside(program, pid)) == str(NOBODY)


@needs_root
def test_a_namespace_that_a_user_made_himself(program: Path) -> None:
    """He is root in there, and decides what lies at each path."""
    somebody = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    with process_of(*somebody, "unshare", "--user", "--map-root-user", "--mount") as pid:
        assert user_of(live._beside(program, pid)) == str(NOBODY)


def test_our_own_are_run_as_we_are(program: Path) -> None:
    with process_of() as pid:
        assert user_of(live._beside(program, pid)) == str(os.geteuid())


def test_a_socket_where_somebody_else_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel keeps a connection waiting that finds no room in the queue."""
    monkeypatch.setattr(live, "COMMAND", 0.2)
    path = tmp_path / "qmp"
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as first:
        server.bind(str(path))
        server.listen(0)
        first.connect(str(path))
        with pytest.raises(UsageError, match="is busy with somebody else"):
            live._peer(path)
