"""A build on a target that doesn't come to its end. What stands for make there only waits."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pytest_memtype import Guest
from pytest_memtype.errors import SshError, SshLost
from pytest_memtype.target import module
from pytest_memtype.target.module import AgentFiles, deploy_module

pytestmark = pytest.mark.distribution("debian:bookworm")

CUT = "pkill -KILL -f 'sshd(-session)?: root'"
LEFT = "ls -d /run/memtype-* /dev/shm/memtype-* 2> /dev/null; pgrep -x make"
BEGUN = "until [ -e /run/begun ]; do sleep 0.1; done"


@pytest.fixture
def made(guest: Guest, tmp_path: Path) -> AgentFiles:
    make = "printf '#!/bin/sh\\ntouch /run/begun\\nwhile [ ! -e /run/go ]; do sleep 0.1; done\\nexit 1\\n'"
    assert guest.shell(f"{make} > /usr/bin/make && chmod 755 /usr/bin/make").status == 0
    (tmp_path / "agent").write_bytes(b"agent")
    return AgentFiles(tmp_path / "agent", None, "built there")


def test_a_build_that_takes_too_long_leaves_nothing(
    guest: Guest, made: AgentFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = guest.shell(LEFT).output
    monkeypatch.setattr(module, "BUILD", 10.0)
    with pytest.raises(SshError, match="not done in 10 s"):
        deploy_module(guest.ssh(), made)
    assert guest.shell(LEFT).output == before


def test_a_build_whose_connection_is_cut_leaves_nothing(guest: Guest, made: AgentFiles) -> None:
    before = guest.shell(LEFT).output
    connection = guest.ssh()
    cutting = threading.Thread(target=guest.shell, args=(f"{BEGUN}; {CUT}",))
    cutting.start()
    with pytest.raises(SshLost):
        deploy_module(connection, made)
    cutting.join()
    # Nobody can tell it to end; when it does, all is removed.
    guest.shell("rm /run/begun; touch /run/go")
    as_before = f"[ \"$({LEFT})\" = '{before.strip()}' ]"
    done = guest.shell(
        f"for turn in $(seq 100); do {as_before} && exit; sleep 0.1; done; {LEFT}; ps axf; exit 1"
    )
    assert done.status == 0, done.output
