import os
from pathlib import Path

import pytest

from pytest_memtype.errors import HostError
from pytest_memtype.host import resources


def test_the_folders_of_the_package() -> None:
    assert (resources.guest_sources() / "module" / "Kbuild").is_file()
    assert resources.kernel_sets().name == "kernels"
    assert resources.testcases().name == "testcases"


def test_the_cache_is_private_and_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path / "a" / "b"))
    path = resources.cache_directory()
    assert path == tmp_path / "a" / "b"
    assert path.stat().st_mode & 0o777 == 0o700
    assert resources.cache_directory() == path


def test_folders_above_the_cache_are_private_whatever_the_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path / "a" / "b" / "c"))
    before = os.umask(0)
    try:
        path = resources.cache_directory()
    finally:
        os.umask(before)
    for folder in (path, path.parent, path.parent.parent):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_the_cache_of_a_user_is_where_the_desktop_keeps_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # XDG Base Directory Specification: $XDG_CACHE_HOME.
    monkeypatch.delenv("MEMTYPE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert resources.cache_directory() == tmp_path / "memtype"


def test_a_cache_that_can_not_be_made_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(HostError, match="set MEMTYPE_CACHE") as caught:
        resources.cache_directory()
    assert "\n" not in str(caught.value)
