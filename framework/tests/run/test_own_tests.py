"""Which tests memtype run takes where none is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_memtype.host import resources
from pytest_memtype.run.own_tests import has_own_tests


@pytest.mark.parametrize("name", ["test_it.py", "tests/deep/test_it.py", "it_test.py"])
def test_a_folder_with_tests_has_some(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
    assert has_own_tests(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["it.py", "test_it.txt", ".venv/test_it.py", "venv/test_it.py", ".memtype/test_it.py", "dist/test_it.py"],
)
def test_what_pytest_would_not_find_is_none(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
    assert not has_own_tests(tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pytest.ini", "[pytest]\npython_files = check_*.py kernel/*.py\n"),
        ("pyproject.toml", '[tool.pytest.ini_options]\npython_files = ["check_*.py", "kernel/*.py"]\n'),
        ("pyproject.toml", '[tool.pytest.ini_options]\npython_files = "check_*.py kernel/*.py"\n'),
    ],
)
def test_a_project_may_have_other_names_for_files_of_tests(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    place = tmp_path / "tests"
    place.mkdir()
    # Pytest looks at one of these no more.
    (place / "test_it.py").touch()
    assert not has_own_tests(tmp_path)
    (place / "check_it.py").touch()
    assert has_own_tests(tmp_path)
    # The settings are above.
    assert has_own_tests(place)
    (place / "check_it.py").unlink()
    (place / "kernel").mkdir()
    (place / "kernel" / "anything.py").touch()
    assert has_own_tests(tmp_path)


def test_packages_in_a_virtual_environment_are_not_ones_own(tmp_path: Path) -> None:
    (tmp_path / "env" / "lib").mkdir(parents=True)
    (tmp_path / "env" / "pyvenv.cfg").touch()
    (tmp_path / "env" / "lib" / "test_it.py").touch()
    assert not has_own_tests(tmp_path)


@pytest.mark.parametrize("place", ["", "linux"])
def test_a_tree_of_linux_has_none(tmp_path: Path, place: str) -> None:
    """Linux 6.12 and 7.3 have tools/testing/kunit/kunit_tool_test.py, and more."""
    tree = tmp_path / place
    (tree / "tools" / "testing" / "kunit").mkdir(parents=True)
    (tree / "tools" / "testing" / "kunit" / "kunit_tool_test.py").touch()
    for name in ("Kbuild", "Kconfig", "MAINTAINERS"):
        (tree / name).touch()
    assert not has_own_tests(tmp_path)
    # Beside it they are somebody's.
    (tmp_path / "zz").mkdir()
    (tmp_path / "zz" / "test_mine.py").touch()
    assert has_own_tests(tmp_path) == bool(place)


def test_the_checkout_has_the_suite(tmp_path: Path) -> None:
    checkout = resources.testcases().parent
    assert not has_own_tests(checkout)
    assert not has_own_tests(checkout / "framework" / "tests")
    assert not has_own_tests(tmp_path)
