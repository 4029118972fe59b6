"""Where commands look for what is the user's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_memtype.host.project import folders_here, root_of


def folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pytest.ini", "[pytest]\ntestpaths = checks more/*\n"),
        ("pyproject.toml", '[tool.pytest.ini_options]\ntestpaths = ["checks", "more/*"]\n'),
        ("pyproject.toml", '[tool.pytest]\ntestpaths = ["checks", "more/*"]\n'),
        ("pytest.toml", '[pytest]\ntestpaths = ["checks", "more/*"]\n'),
        (".pytest.toml", '[pytest]\ntestpaths = ["checks", "more/*"]\n'),
        ("tox.ini", "[tox]\n[pytest]\ntestpaths = checks more/*\n"),
        ("setup.cfg", "[tool:pytest]\ntestpaths =\n    checks\n    more/*\n"),
    ],
)
def test_the_root_and_its_testpaths(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    deep = folder(tmp_path / "source" / "deep")
    checks, more = folder(tmp_path / "checks"), folder(tmp_path / "more" / "one")
    assert root_of(deep) == tmp_path
    found = folders_here(deep)
    assert found[:3] == [deep, tmp_path / "source", tmp_path]
    assert {checks, more} <= set(found)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pyproject.toml", "[project]\nname = 'x'\n"),
        ("pyproject.toml", "not TOML"),
        ("pyproject.toml", "tool = 1\n"),
        ("pyproject.toml", "[tool]\npytest = [1]\n"),
        ("pyproject.toml", "[tool.pytest]\n"),
        ("pyproject.toml", "[tool.pytest]\nini_options = 1\n"),
        ("tox.ini", "[tox]\n"),
        ("setup.cfg", "no section\n"),
    ],
)
def test_a_file_without_settings_is_no_root(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "pytest.ini").touch()
    (inner := folder(tmp_path / "inner")).joinpath(name).write_text(text)
    assert root_of(inner) == tmp_path


def test_without_settings_nothing_above_is_looked_into(tmp_path: Path) -> None:
    here = folder(tmp_path / "here")
    folder(tmp_path / "beside")
    assert root_of(here) == here
    assert folders_here(here) == [here]


def test_what_is_below_but_not_other_peoples(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").touch()
    below = folder(tmp_path / "tests" / "deeper")
    for name in (".git", "build", "node_modules", "tests/__pycache__"):
        folder(tmp_path / name / "tests")
    (folder(tmp_path / "environment") / "pyvenv.cfg").touch()
    assert folders_here(tmp_path) == [tmp_path, tmp_path / "tests", below]


def test_what_is_named_comes_first(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").touch()
    other, file = folder(tmp_path / "other"), folder(tmp_path / "files") / "test_it.py"
    file.touch()
    assert folders_here(tmp_path, named=[file, other])[:3] == [file.parent, other, tmp_path]


@pytest.mark.parametrize("name", ["pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini"])
def test_an_empty_file_of_pytests_alone_makes_a_root(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert root_of(folder(tmp_path / "tests")) == tmp_path


def test_testpaths_of_another_type_are_none(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\ntestpaths = 3\n")
    assert folders_here(tmp_path) == [tmp_path]


def test_testpaths_that_can_not_be_are_none(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\ntestpaths = /nosuch/* missing\n")
    assert folders_here(tmp_path) == [tmp_path]
