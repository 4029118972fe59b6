"""What is taken out of a package of the kernel's sources needs a program that not every machine has."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_memtype.errors import HostError
from pytest_memtype.kernels.source_package import recipe, unpack_sources


def test_a_machine_without_xz_is_told_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match="install the package xz-utils"):
        unpack_sources(tmp_path / "root", ["scripts"], suite="bookworm", what="it", cache=tmp_path)
    assert not (tmp_path / "root").exists()


def test_other_files_are_another_recipe() -> None:
    texts = {
        recipe("bookworm", "", ["scripts"]),
        recipe("bookworm", "", ["scripts", "mm"]),
        recipe("bookworm", "linux-source-6.1", ["scripts"]),
        recipe("trixie", "", ["scripts"]),
    }
    assert len(texts) == 4
