"""The list of kernels in the cache, while other runs make and remove some."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from pytest_memtype.cli import main
from pytest_memtype.host import cached_folders
from pytest_memtype.kernels import ready
from pytest_memtype.kernels.ready import cached

FOLDERS = ("kits/6.1.0-1-0123", "bundles/6.1.0-1-4567", "kits/6.12.0-1-89ab")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path))
    for name in FOLDERS:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_bytes(bytes(1 << 20))
    return tmp_path


def test_kernels_by_release(cache: Path) -> None:
    one, two = cached()
    assert (one.release, two.release) == ("6.1.0-1", "6.12.0-1")
    assert one.paths == (cache / FOLDERS[0], cache / FOLDERS[1])
    assert (one.kit >> 20, one.bundles >> 20, two.kit >> 20, two.bundles >> 20) == (1, 1, 1, 0)


@pytest.mark.parametrize("before", [False, True])
def test_what_another_run_removes_meanwhile_is_left_out(
    cache: Path, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    """Before its size is summed up, or behind that."""

    def size_of(path: Path) -> int:
        gone = path.name in ("6.1.0-1-4567", "6.12.0-1-89ab")
        size = 0 if before and gone else cached_folders.size_of(path)
        if gone:
            shutil.rmtree(path)
        if before and gone:
            (path / "file").lstat()
        return size

    monkeypatch.setattr(ready, "size_of", size_of)
    done = CliRunner().invoke(main, ["kernels", "list"])
    assert done.exit_code == 0, done.exception
    assert "6.12" not in done.output
    assert f"{cache}: 1 kernels, 1 MiB" in done.output.replace("\n", "")
