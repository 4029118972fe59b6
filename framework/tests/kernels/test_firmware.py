"""OVMF from Debian's package."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pytest_memtype.errors import HostError
from pytest_memtype.kernels import firmware
from pytest_memtype.kernels.firmware import flash


def test_seabios_is_qemus_own() -> None:
    assert flash("seabios") == ()


def test_ovmf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fetched once; what it is can be told by the headers of its firmware volumes."""
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path))
    said: list[str] = []

    code, variables = flash("ovmf", progress=said.append)
    again = flash("ovmf", progress=said.append)

    assert said == ["downloading the firmware ovmf"]
    assert again == (code, variables)
    # Flash of 4 MiB: variables first, then code, to 4 GiB.
    assert code.stat().st_size + variables.stat().st_size == 4 << 20
    for path in (code, variables):
        # UEFI Platform Initialization Specification vol. 3, EFI_FIRMWARE_VOLUME_HEADER.Signature.
        assert path.read_bytes()[40:44] == b"_FVH"
    # Nothing but the two files is kept.
    assert {path.name for path in code.parent.iterdir()} == {code.name, variables.name, "sums.json"}
    assert not list((tmp_path / "work").glob("*/partial/*"))


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path))
    monkeypatch.setattr(firmware, "_NEEDED_BYTES", shutil.disk_usage(tmp_path).total * 2)
    with pytest.raises(HostError, match="disk is full"):
        flash("ovmf")
    assert not (tmp_path / "firmware").exists()
