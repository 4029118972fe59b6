"""The key of a module of the user's, by which the cache has it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_memtype.errors import UsageError
from pytest_memtype.kernels import user_module as of_users
from pytest_memtype.kernels.bundle import bundle_in
from pytest_memtype.kernels.fetch import note_kernel
from pytest_memtype.kernels.index import Kernel
from pytest_memtype.kernels.user_module import check_source, user_module

RELEASE = "6.1.0-56-cloud-amd64"


@pytest.fixture
def place_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], str]:
    """Gives the name that the cache would have for the module of a folder. Nothing is built."""

    def made_once(folder: Path, *_: object, **__: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "module.ko").touch()

    monkeypatch.setenv("MEMTYPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(of_users, "made_once", made_once)
    directory = tmp_path / "bundle"
    directory.mkdir()
    (directory / "memtype.ko").touch()
    note_kernel(Kernel(RELEASE, "6.1.192-2", "bookworm", f"linux-image-{RELEASE}"), directory)
    made = bundle_in(
        directory,
        spec=f"debian:{RELEASE}",
        release=RELEASE,
        version="6.1.192-2",
        key="",
        kit=tmp_path / "kit",
    )
    return lambda folder: user_module(str(folder), tmp_path, made).file.parent.name


def test_files_may_have_names_of_any_bytes(tmp_path: Path, place_of: Callable[[Path], str]) -> None:
    toy = tmp_path / "toy"
    toy.mkdir()
    (toy / "Kbuild").write_text("obj-m := toy.o\n")
    names = {place_of(toy)}
    for name in ("read me", "caf\u00e9", os.fsdecode(b"caf\xe9")):
        (toy / name).touch()
        names.add(place_of(toy))
    assert len(names) == 4


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("~nobody-of-this-name/toy", "there is no such home folder"),
        ("x" * 300, "File name too long"),
        ("x" * 5000 + ".ko", "File name too long"),
        ("a\0b", "there is no "),
        ("nowhere/toy.c", "there is no "),
    ],
)
def test_what_can_be_no_file_is_told_in_one_line(tmp_path: Path, source: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as raised:
        check_source(source, tmp_path)
    assert "\n" not in raised.value.message
