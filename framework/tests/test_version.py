"""The version: that of the tag, of the archive of a tag, or the fallback where nothing has a history."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
FALLBACK = tomllib.loads((_ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["version"][
    "fallback-version"
]

# An archive of the sources needs none; who has a clone has it.
pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not on this host")


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A folder with all that decides on the version, without a history."""
    folder = tmp_path / "sources"
    folder.mkdir()
    for name in ("pyproject.toml", ".gitattributes", ".git_archival.txt"):
        shutil.copy(_ROOT / name, folder)
    return folder


def git(folder: Path, *arguments: str) -> bytes:
    identity = ("-c", "user.name=Nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false")
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True).stdout


def commit(folder: Path, *, tag: str | None = None) -> None:
    """Put all of a folder into a repository, the first call into a new one."""
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "All of it")
    if tag:
        git(folder, "tag", tag)


def archive(folder: Path) -> Path:
    """What ``git archive`` makes of a repository, unpacked beside it."""
    unpacked = folder.with_name("archive")
    unpacked.mkdir()
    subprocess.run(["tar", "-x"], cwd=unpacked, input=git(folder, "archive", "HEAD"), check=True)
    return unpacked


def version(folder: Path) -> str:
    command = [sys.executable, "-m", "hatchling", "version"]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_sources_without_a_history_have_the_fallback(sources: Path) -> None:
    assert version(sources) == FALLBACK


def test_sources_inside_another_repository_have_the_fallback(sources: Path) -> None:
    commit(sources.parent, tag="v9.9")
    assert version(sources) == FALLBACK


def test_a_clone_without_tags_counts_commits(sources: Path) -> None:
    commit(sources)
    commit(sources)
    assert version(sources).startswith(FALLBACK.removesuffix("0") + "2+g")


def test_a_tag_is_the_version(sources: Path) -> None:
    commit(sources, tag="v3.4.5")
    assert version(sources) == "3.4.5"
    commit(sources)
    assert version(sources).startswith("3.4.6.dev1+g")


def test_an_archive_knows_its_tag(sources: Path) -> None:
    commit(sources, tag="v3.4.5")
    assert version(archive(sources)) == "3.4.5"


def test_an_archive_without_tags_has_the_fallback(sources: Path) -> None:
    commit(sources)
    assert version(archive(sources)) == FALLBACK
