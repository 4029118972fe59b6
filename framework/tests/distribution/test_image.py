"""What decides about an image, without building one; test_guest.py boots what was built."""

from __future__ import annotations

import os
import pwd
import shutil
from pathlib import Path

import pytest

from pytest_memtype.distribution import image as room
from pytest_memtype.distribution.image import lines_of, recipe
from pytest_memtype.distribution.system import check_guest
from pytest_memtype.errors import UsageError
from pytest_memtype.kernels import mmdebstrap


def test_each_input_changes_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(recipe(), tmp_path / "debian")
    monkeypatch.setattr(room, "recipe", lambda: tmp_path / "debian")
    digests = {room._digest("bookworm"), room._digest("trixie")}
    for name in ("packages", "masked", "settings/etc/ssh/sshd_config.d/memtype.conf"):
        file = tmp_path / "debian" / name
        file.write_text(f"{file.read_text()}#\n")
        digests.add(room._digest("bookworm"))
    (tmp_path / "debian" / "settings" / "new").write_text("")
    digests.add(room._digest("bookworm"))
    assert len(digests) == 6
    # The initramfs is another file.
    (tmp_path / "debian" / "init").write_text("")
    assert room._digest("bookworm") in digests


def test_lists_have_comments(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("# one\n\nfirst # remark\n  second\n")
    assert lines_of(tmp_path / "list") == ["first", "second"]


@pytest.mark.parametrize("name", ["debian", "debian:", "debian:sid", "bookworm", "fedora:41", ""])
def test_unknown_guest_is_named(name: str) -> None:
    with pytest.raises(
        UsageError, match=r"not known; (did you mean .*\? )?known are minimal, debian:bookworm, debian:trixie"
    ):
        check_guest(name)


def test_user_without_namespaces_is_told_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert mmdebstrap.namespace_problem() == "newuidmap is missing; install the package uidmap"
    for program in ("newuidmap", "unshare"):
        (tmp_path / program).write_text("#!/bin/sh\necho denied >&2\nexit 1\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    said = mmdebstrap.namespace_problem()
    assert said is not None
    assert "has no line for nobody; as root: usermod --add-subuids" in said


def test_a_user_without_a_name_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "newuidmap").touch(mode=0o755)
    unnamed = next(uid for uid in range(54321, 65534) if not is_named(uid))
    monkeypatch.setattr(os, "geteuid", lambda: unnamed)
    assert mmdebstrap.namespace_problem() == (
        f"user {unnamed} has no entry in /etc/passwd, which newuidmap asks for; add one"
    )


def is_named(uid: int) -> bool:
    return any(entry.pw_uid == uid for entry in pwd.getpwall())


@pytest.mark.parametrize("script", ["exec sleep 1000", None], ids=["hangs", "is missing"])
def test_namespaces_that_can_not_be_tried_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "newuidmap").touch(mode=0o755)
    (folder / "sleep").symlink_to(shutil.which("sleep") or "")
    if script is not None:
        (folder / "unshare").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "unshare").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(mmdebstrap, "_END_SECONDS", 1)
    lists = tmp_path / "subids"
    lists.write_text(f"{os.geteuid()}:100000:65536\n")
    monkeypatch.setattr(mmdebstrap, "_SUBORDINATE", (lists,))
    said = mmdebstrap.namespace_problem()
    assert said is not None
    assert said.startswith("user namespaces can't be tried (")
    assert "\n" not in said
