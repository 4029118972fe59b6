"""Two machines and a file with kernels, which goes from one to the other."""

from __future__ import annotations

from pathlib import Path

import pytest
from memtype_support.carried_kernels import fill, memtype


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of the machine with a network."""
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path / "there"))
    fill(tmp_path / "there")
    return tmp_path / "there"


@pytest.fixture
def file(there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An export, and from now on the other machine's empty cache."""
    assert there.is_dir()
    path = tmp_path / "kernels.tar.gz"
    assert memtype("cache", "export", path, "debian:bookworm").exit_code == 0
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path / "here"))
    return path


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return tmp_path / "here"
