"""Which QEMU of a suite there is when the mirror doesn't answer. A stub stands for mmdebstrap."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from memtype_support.qemu_of_suite import series_of
from memtype_support.small_indexes import DAY
from memtype_support.stub_mmdebstrap import NO_SUITE, SILENT, UNREACHABLE, StubMmdebstrap

from pytest_memtype.errors import KernelError, Unreachable
from pytest_memtype.kernels import mirror


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with trixie's QEMU, fetched eight days ago."""
    kit = tmp_path / "cache" / "suite-qemus" / "trixie"
    kit.mkdir(parents=True)
    (kit / "policy").write_text(
        "qemu-system-x86:\n  Installed: (none)\n  Candidate: 1:10.0.13+ds-0+deb13u1\n"
    )
    os.utime(kit, (time.time() - 8 * DAY,) * 2)
    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(mirror.VARIABLE, raising=False)
    mirror.forget()
    return tmp_path / "cache"


@pytest.mark.parametrize("answer", [UNREACHABLE, SILENT, NO_SUITE])
def test_the_old_one_does_where_a_mirror_fails(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    stub = StubMmdebstrap(tmp_path / "bin", monkeypatch, answer)
    with pytest.warns(
        UserWarning, match=r"^QEMU of trixie is 8 days old: QEMU of trixie: the (Debian )?mirror"
    ):
        assert series_of("trixie") == "10.0"
    assert len(stub.calls) == 1
    assert [each.name for each in (cache / "suite-qemus").iterdir()] == ["trixie"]


@pytest.mark.usefixtures("cache")
def test_offline_no_mirror_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub = StubMmdebstrap(tmp_path / "bin", monkeypatch)
    monkeypatch.setenv(mirror.VARIABLE, "1")
    with pytest.warns(UserWarning, match="8 days old: .* may not be asked"):
        assert series_of("trixie") == "10.0"
    # There is none of it at all, which a test says when it is skipped.
    with pytest.raises(Unreachable, match="QEMU of sid: not in the cache"):
        series_of("sid")
    assert stub.calls == []


@pytest.mark.usefixtures("cache")
def test_without_an_old_one_a_fault_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    StubMmdebstrap(tmp_path / "bin", monkeypatch, NO_SUITE)
    with pytest.raises(KernelError, match="doesn't carry this suite"):
        series_of("sid")
