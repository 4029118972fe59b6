from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from pytest_memtype.errors import KernelError
from pytest_memtype.host.progress import silent
from pytest_memtype.kernels import changelog as of_kernels
from pytest_memtype.kernels.changelog import about_memory_types, changelog, new_series
from pytest_memtype.kernels.index import Kernel

TEXT = """linux (6.16.3-1) unstable; urgency=medium

  * New upstream stable update:
    https://www.example.org/ChangeLog-6.16.3
    - mm: rewrite pfnmap tracking and remove VM_PAT
    - net: something else, a patch
    - [s390x] Remove ioremap_wt() and pgprot_writethrough()
    - [amd64,arm64] drm: pgprot_writecombine() of it
    - x86/mm/pat: a sentence that goes on
      in the next line (Closes: #1)

  [ Somebody ]
  * [x86] mtrr: Fix it <https://bugs.example.org/2>

 -- Somebody <somebody@example.org>  Mon, 25 Aug 2025 10:00:00 +0000

linux (6.12.43-1) unstable; urgency=medium

  * x86/mtrr: of the older package

 -- Somebody <somebody@example.org>  Mon, 25 Aug 2025 09:00:00 +0000
"""


def test_entries_about_memory_types() -> None:
    assert about_memory_types(TEXT, after="6.12.43-1", upto="6.16.3-1~bpo13+1") == []
    assert about_memory_types(TEXT, after="6.12.43-1", upto="6.16.3-1") == [
        ("6.16.3-1", "mm: rewrite pfnmap tracking and remove VM_PAT"),
        ("6.16.3-1", "[amd64,arm64] drm: pgprot_writecombine() of it"),
        ("6.16.3-1", "x86/mm/pat: a sentence that goes on in the next line (Closes: #1)"),
        ("6.16.3-1", "[x86] mtrr: Fix it"),
    ]


def test_series_whose_changes_it_does_not_tell() -> None:
    begun = TEXT.replace(
        "New upstream stable update:", "New upstream release: https://example.org/Linux_6.16"
    )
    assert new_series(begun, after="6.12.43-1", upto="6.16.3-1") == ["6.16"]
    assert new_series(TEXT, after="6.12.43-1", upto="6.16.3-1") == []


KERNEL = Kernel("6.16.3-cloud-amd64", "6.16.3-1", "sid", "linux-image-6.16.3-cloud-amd64")
PACKED = gzip.compress(TEXT.encode())


def packages_with(monkeypatch: pytest.MonkeyPatch, content: bytes) -> list[Path]:
    """Have packages hold a changelog of some content; gives the list of what was unpacked."""
    unpacked: list[Path] = []

    def unpack(_sources: object, root: Path, **_options: object) -> None:
        unpacked.append(root)
        folder = root / "changelog" / "usr" / "share" / "doc" / KERNEL.image
        folder.mkdir(parents=True)
        (folder / "changelog.Debian.gz").write_bytes(content)

    monkeypatch.setattr(of_kernels, "unpack", unpack)
    return unpacked


def test_a_changelog_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unpacked = packages_with(monkeypatch, PACKED)
    for _ in range(2):
        assert changelog(KERNEL, cache=tmp_path, progress=silent) == TEXT
    assert len(unpacked) == 1


@pytest.mark.parametrize(
    "damage", [b"", PACKED[:100], b"no gzip", PACKED[:40] + bytes(40) + PACKED[80:]], ids=range(4)
)
def test_a_damaged_changelog_is_fetched_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes
) -> None:
    """As a crash of the host leaves it."""
    packages_with(monkeypatch, PACKED)
    changelog(KERNEL, cache=tmp_path, progress=silent)
    (kept,) = (tmp_path / "changelogs").iterdir()
    kept.write_bytes(damage)
    assert changelog(KERNEL, cache=tmp_path, progress=silent) == TEXT


def test_a_package_with_a_damaged_changelog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages_with(monkeypatch, b"no gzip")
    with pytest.raises(KernelError, match="the changelog in the package can't be read"):
        changelog(KERNEL, cache=tmp_path, progress=silent)
