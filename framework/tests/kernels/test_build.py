from pathlib import Path

import pytest

from pytest_memtype.errors import HostError
from pytest_memtype.kernels.build import build_module_on_host, build_out_of_tree, source_files
from pytest_memtype.kernels.bundle import source_hash


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    for name in (
        "module/Kbuild",
        "module/main.c",
        "agent/Makefile",
        "agent/agent.h",
        "initramfs/initramfs.list",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    return tmp_path


def test_the_hash_is_of_names_and_contents(sources: Path) -> None:
    seen = {source_hash(sources)}
    (sources / "module" / "main.c").write_text("changed")
    seen.add(source_hash(sources))
    (sources / "agent" / "more.h").write_text("")
    seen.add(source_hash(sources))
    (sources / "agent" / "more.h").rename(sources / "agent" / "other.h")
    seen.add(source_hash(sources))
    (sources / "initramfs" / "initramfs.list").write_text("dir /dev 0755 0 0")
    seen.add(source_hash(sources))
    assert len(seen) == 5


def test_contents_that_move_between_files_change_the_hash(sources: Path) -> None:
    first, second = sources / "module" / "a.c", sources / "module" / "b.c"
    first.write_text("12")
    second.write_text("3")
    before = source_hash(sources)
    first.write_text("1")
    second.write_text("23")
    assert source_hash(sources) != before


def test_products_of_a_build_by_hand_are_no_sources(sources: Path) -> None:
    before = source_hash(sources)
    for name in (
        "module/main.o",
        "module/memtype.ko",
        "module/memtype.mod.c",
        "module/.main.o.cmd",
        "agent/agent",
    ):
        (sources / name).write_text("built")
    assert source_hash(sources) == before
    assert [path.name for path in source_files(sources)] == [
        "Makefile",
        "agent.h",
        "initramfs.list",
        "Kbuild",
        "main.c",
    ]


def test_the_library_for_user_space_is_no_source_of_a_guest(sources: Path) -> None:
    before = source_hash(sources)
    (sources / "verifier_host").mkdir()
    (sources / "verifier_host" / "library.c").write_text("")
    assert source_hash(sources) == before


def test_the_hash_does_not_depend_on_where_the_sources_are(
    sources: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "guests"
    before = source_hash(sources)
    sources.rename(elsewhere)
    assert source_hash(elsewhere) == before


def test_a_host_without_make_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match="make: not installed; install"):
        build_module_on_host(tmp_path, compiler=(), work=tmp_path, what="kernel x")
    with pytest.raises(HostError, match="make: not installed; install"):
        build_out_of_tree(tmp_path, compiler=(), module=tmp_path, flags="", limit=1)


def test_a_host_without_strip_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "make").write_text("#!/bin/sh\n")
    (tmp_path / "make").chmod(0o755)
    (tmp_path / "toy.ko").touch()
    with pytest.raises(HostError, match="strip: not installed; install"):
        build_out_of_tree(tmp_path, compiler=(), module=tmp_path, flags="", limit=1)
