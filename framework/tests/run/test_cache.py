"""Removing what the cache holds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pytest_memtype.cli import main
from pytest_memtype.host.progress import silent
from pytest_memtype.host.store import build_dir, exclusive
from pytest_memtype.kernels.offline import readiness
from pytest_memtype.run.cache import entries

NAME = "6.1.0-1-cloud-amd64-0123456789abcdef"
REMOVALS = (["cache", "remove", NAME], ["kernels", "remove", "6.1.0-1-cloud-amd64"])

#: Dies at the first file of the kit that it removes.
DIES = """
import os, signal, sys
def watch(event, arguments):
    if event == "os.remove" and "vmlinuz" in str(arguments[0]):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
from pytest_memtype.cli import main
main()
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def kit(cache: Path) -> Path:
    path = cache / "kits" / NAME
    (path / "memtype").mkdir(parents=True)
    (path / "memtype" / "vmlinuz").touch()
    return path


def start(code: str, arguments: list[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


@pytest.mark.parametrize("arguments", REMOVALS)
def test_a_removal_that_was_killed_leaves_no_half_kit(cache: Path, kit: Path, arguments: list[str]) -> None:
    with start(DIES, arguments) as killed:
        assert killed.communicate(timeout=60)[0] == ""
    assert killed.returncode == -signal.SIGKILL
    assert not kit.exists()
    # The next run that wants it clears up.
    place = build_dir(cache, NAME)
    assert (place / "partial").exists()
    with exclusive(place, silent):
        assert not (place / "partial").exists()


@pytest.mark.parametrize("arguments", REMOVALS)
def test_what_could_not_be_removed_is_not_said_to_be(cache: Path, kit: Path, arguments: list[str]) -> None:
    (build_dir(cache, NAME) / "partial").touch()
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 3
    assert result.stdout == ""
    assert result.stderr.startswith(f"memtype: {kit}: can't be removed (")
    assert result.stderr.count("\n") == 1
    assert (kit / "memtype" / "vmlinuz").exists()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("arguments", REMOVALS)
def test_nothing_is_removed_under_a_run_that_builds_with_it(
    cache: Path, kit: Path, arguments: list[str]
) -> None:
    place = build_dir(cache, NAME)
    with exclusive(place, silent):
        removal = start("from pytest_memtype.cli import main; main()", arguments)
        assert removal.stderr is not None
        assert removal.stderr.readline() == "waiting for another run that is preparing the same\n"
        assert kit.exists()
        lock = (place / "lock").stat().st_ino
    with removal:
        assert removal.communicate(timeout=60)[0].startswith("removed ")
    assert not kit.exists()
    # A run that has opened the file, and one that makes another, would each hold a lock.
    assert (place / "lock").stat().st_ino == lock


KINDS = ("drivers", "modules", "images", "firmware", "bundles", "user-modules")


def test_all_kinds_are_removed(cache: Path) -> None:
    folders = [cache / kind / f"{kind}-1" for kind in KINDS]
    folders += [cache / "suite-qemus" / "trixie", cache / "kvm" / "outer-1", cache / "kvm" / "template-1"]
    folders.append(cache / "templates" / "00ff" / "ready")
    for folder in folders:
        folder.mkdir(parents=True)
    names = [folder.name for folder in folders[:-1]]
    result = CliRunner().invoke(main, ["cache", "remove", "00ff", *names])
    assert result.exit_code == 0
    assert result.output.count("removed ") == len(folders)
    assert not any(folder.exists() for folder in folders)


@pytest.mark.parametrize("text", ["", "{}", "[" * 100_000])
def test_a_damaged_template_is_listed(cache: Path, text: str) -> None:
    folder = cache / "templates" / "00ff" / "ready"
    folder.mkdir(parents=True)
    (folder / "template.json").write_text(text)
    result = CliRunner().invoke(main, ["cache"])
    assert result.exit_code == 0, result.output
    assert "damaged" in result.output
    assert readiness(cache).templates == 0


def test_all_that_takes_room_is_listed(cache: Path) -> None:
    """By the sizes of files that the tests of the project leave there, too."""
    for name in ("kits/a-1", "suite-qemus/sid", "kvm/outer-1", "kvm/template-1"):
        (cache / name).mkdir(parents=True)
        (cache / name / "file").write_bytes(bytes(3 << 20))
    rows = CliRunner().invoke(main, ["cache"]).stdout.splitlines()
    assert rows[-1] == f"{cache}: 12 MiB in 4 entries"
    assert [row.split()[0] for row in rows[1:-1]] == ["kit", "qemu", "outer", "outer"]


def test_what_is_removed_while_it_is_listed_is_left_out(
    cache: Path, kit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another run, which needs the room."""
    for name in ("kits/gone", "kvm/gone", "kvm/there"):
        (cache / name).mkdir(parents=True)

    def size_of(path: Path) -> int:
        if path.name == "gone":
            path.rmdir()
        return 1

    monkeypatch.setattr("pytest_memtype.run.cache.size_of", size_of)
    assert [entry.name for entry in entries()] == [kit.name, "there"]


@pytest.mark.timeout(60)
def test_a_suites_qemu_is_not_removed_while_it_is_fetched(cache: Path) -> None:
    (cache / "suite-qemus" / "sid").mkdir(parents=True)
    with exclusive(build_dir(cache, "suite-qemu-sid"), silent):
        removal = start("from pytest_memtype.cli import main; main()", ["cache", "remove", "sid"])
        assert removal.stderr is not None
        assert removal.stderr.readline() == "waiting for another run that is preparing the same\n"
    with removal:
        assert removal.communicate(timeout=60)[0].startswith("removed qemu sid")


def test_names_are_no_markup(cache: Path) -> None:
    (cache / "bundles" / "6.1[bold]-0123[red]").mkdir(parents=True)
    assert "6.1[bold]-0123[red]" in CliRunner().invoke(main, ["cache"]).output
    assert "6.1[bold]" in CliRunner().invoke(main, ["kernels"]).output
