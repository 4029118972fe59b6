"""The sandbox of builds, where bubblewrap can't be used."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pytest_memtype.errors import HostError
from pytest_memtype.kernels import sandbox

# As bubblewrap 0.9.0 says it on Ubuntu 24.04.
REFUSED = "bwrap: setting up uid map: Permission denied"


@pytest.mark.parametrize(
    ("setting", "user", "said"),
    [
        ("1\n", 1000, f"{REFUSED} (sysctl kernel.restriction isn't 0)"),
        ("0\n", 1000, REFUSED),
        (None, 1000, REFUSED),
        ("1\n", 0, REFUSED),
    ],
)
def test_the_restriction_of_user_namespaces_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str | None, user: int, said: str
) -> None:
    if setting is not None:
        (tmp_path / "restriction").write_text(setting)
    (tmp_path / "bwrap").write_text(f"#!/bin/sh\necho '{REFUSED}' >&2\nexit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(sandbox, "_RESTRICTION", tmp_path / "restriction")
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert sandbox.bwrap_problem() == said
    if user != 0:
        monkeypatch.setattr(sandbox, "require_ours", lambda *_, **__: None)
        with pytest.raises(HostError, match="allow unprivileged user namespaces, or run as root") as raised:
            sandbox.run(tmp_path, source=tmp_path, script="", limit=1)
        assert said in raised.value.message


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kit for a root without bubblewrap, in which a killed run has left files. Nothing is run in it."""
    monkeypatch.setattr(sandbox, "bwrap_problem", lambda: "not installed")
    monkeypatch.setattr(sandbox, "require_ours", lambda *_, **__: None)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "mknod", lambda *_: None)
    (tmp_path / "kit" / "src" / "toy").mkdir(parents=True)
    (tmp_path / "kit" / "src" / "toy" / "old.ko").touch()
    return tmp_path / "kit"


def test_a_build_by_chroot_sees_nothing_of_one_that_was_killed(
    kit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def finish(*_: object, **__: object) -> sandbox.Finished:
        (kit / "src" / "toy" / "new.ko").touch()
        return sandbox.Finished(0, "")

    monkeypatch.setattr(sandbox, "_finish", finish)
    source = tmp_path / "work"
    (source / "toy").mkdir(parents=True)
    (source / "toy" / "new.c").touch()
    sandbox.run(kit, source=source, script="", limit=1)
    assert sorted(path.name for path in (source / "toy").iterdir()) == ["new.c", "new.ko"]
    assert list((kit / "src").iterdir()) == []


def test_a_kit_that_has_lost_the_folder_to_build_in_gets_it_again(
    kit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build by chroot was killed while it had none."""
    monkeypatch.setattr(sandbox, "bwrap_problem", lambda: None)
    monkeypatch.setattr(sandbox, "_finish", lambda *_, **__: sandbox.Finished(0, ""))
    shutil.rmtree(kit / "src")
    sandbox.run(kit, source=tmp_path, script="", limit=1)
    assert (kit / "src").is_dir()


def test_a_build_by_chroot_without_room_leaves_nothing(kit: Path, tmp_path: Path) -> None:
    source = tmp_path / "work"
    source.mkdir()
    # As if it were what there is no room for: it can't be copied.
    (source / "pipe").symlink_to(source / "nowhere")
    with pytest.raises(shutil.Error):
        sandbox.run(kit, source=source, script="", limit=1)
    assert list((kit / "src").iterdir()) == []


def test_a_root_that_may_make_no_device_is_told_so(
    kit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of a container of a plain user's."""

    def refused(path: Path, *_: object) -> None:
        raise PermissionError(1, "Operation not permitted", str(path))

    monkeypatch.setattr(os, "mknod", refused)
    with pytest.raises(
        HostError, match=r"bwrap: not installed; and root may not make .*/dev/null here"
    ) as raised:
        sandbox.run(kit, source=tmp_path, script="", limit=1)
    assert "\n" not in raised.value.message
