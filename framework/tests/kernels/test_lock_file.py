"""Kernels that a project has pinned, on indexes that are kept with the tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from memtype_support.small_indexes import fill_with_indexes

from pytest_memtype.cli import main
from pytest_memtype.errors import UsageError
from pytest_memtype.host.progress import silent
from pytest_memtype.kernels.lock import LOCK, read_lock
from pytest_memtype.run.variants import all_variants


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache, folder = tmp_path / "cache", tmp_path / "project"
    cache.mkdir(0o700)
    folder.mkdir()
    monkeypatch.setenv("MEMTYPE_CACHE", str(cache))
    fill_with_indexes(cache)
    monkeypatch.chdir(folder)
    return folder


def meant(*kernels: str) -> dict[str, str]:
    return {each.name: each.kernel for each in all_variants(kernels or None, None, progress=silent)}


def locked(*specs: str) -> str:
    done = CliRunner().invoke(main, ["kernels", "lock", *specs])
    assert done.exit_code == 0, done.output
    return done.output


def test_without_a_file_the_newest_is_tested(project: Path) -> None:
    assert not (project / LOCK).exists()
    assert meant() == {"debian:bookworm": "debian:bookworm"}


def test_a_new_file_pins_the_default(project: Path) -> None:
    assert (
        locked()
        == "debian:bookworm: debian:6.1.0-56-cloud-amd64\nwritten to memtype-kernels.lock; commit it\n"
    )
    assert (project / LOCK).read_text().splitlines()[1:] == [
        "[kernels]",
        '"debian:bookworm" = "debian:6.1.0-56-cloud-amd64"',
    ]


def test_what_is_pinned_is_tested_under_the_name_that_was_given(project: Path) -> None:
    (project / LOCK).write_text('[kernels]\n"debian:bookworm" = "debian:6.1.0-57-cloud-amd64"\n')
    said: list[str] = []
    found = all_variants(None, None, progress=said.append)
    assert [(each.name, each.kernel, each.tested) for each in found] == [
        ("debian:bookworm", "debian:6.1.0-57-cloud-amd64", "debian:6.1.0-57-cloud-amd64")
    ]
    assert said == ["memtype-kernels.lock: debian:bookworm is debian:6.1.0-57-cloud-amd64"]
    assert meant("debian:trixie") == {"debian:trixie": "debian:trixie"}


def test_a_set_is_pinned_as_a_whole_and_keeps_its_names() -> None:
    before = meant("set:lts")
    locked("set:lts")
    assert meant("set:lts") == before
    assert len(read_lock(Path.cwd())["set:lts"]) == len(before)


def test_it_is_renewed_by_the_same_command(project: Path) -> None:
    (project / LOCK).write_text('[kernels]\n"debian:bookworm" = "debian:6.1.0-57-cloud-amd64"\n')
    assert "debian:bookworm: debian:6.1.0-56-cloud-amd64 (was debian:6.1.0-57-cloud-amd64)\n" in locked()
    locked("debian:trixie")
    assert read_lock(project).keys() == {"debian:bookworm", "debian:trixie"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[kernels", "Expected"),
        ("[others]\n", "it has one table"),
        ('[kernels]\n"debian:bookworm" = 7\n', "'debian:bookworm' has no kernel"),
        ('[kernels]\n"debian:bookworm" = []\n', "'debian:bookworm' has no kernel"),
        ('[kernels]\n"debian:bookworm" = "debian:trixie"\n', "'debian:trixie' is no exact kernel"),
        ('[kernels]\n"debian:bookworm" = "tree:/home"\n', "'tree:/home' is no exact kernel"),
        ("kernels = 3\n", "memtype kernels lock"),
    ],
)
def test_a_file_that_is_none_is_one_line(project: Path, text: str, said: str) -> None:
    (project / LOCK).write_text(text)
    with pytest.raises(UsageError) as error:
        meant()
    assert said in error.value.message
    assert error.value.message.startswith(f"{project / LOCK}: ")
    assert "\n" not in error.value.message


def test_a_kernel_of_ones_own_is_not_pinned(project: Path) -> None:
    done = CliRunner().invoke(main, ["kernels", "lock", "debian:6.99"])
    assert done.exit_code == 3
    assert not (project / LOCK).exists()
