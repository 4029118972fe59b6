"""Ids of tests whose files lie outside of pytest's root folder."""

from __future__ import annotations

from pathlib import Path

import pytest

TEST = "class TestIt:\n    def test_x(self): ...\n"


@pytest.fixture
def others(pytester: pytest.Pytester) -> Path:
    """A folder beside the root folder, with two files that have the same name."""
    for name in ("a", "b"):
        (pytester.path / "others" / name).mkdir(parents=True)
        (pytester.path / "others" / name / "test_same.py").write_text(TEST)
    (pytester.path / "root").mkdir()
    return pytester.path / "others"


def ids(pytester: pytest.Pytester, *arguments: object) -> list[str]:
    done = pytester.runpytest_inprocess(
        "--rootdir", "root", "--import-mode=importlib", "-p", "no:xdist", "--collect-only", "-q",
        *map(str, arguments),
    )  # fmt: skip
    assert done.ret == 0
    return [line for line in done.outlines if "::" in line]


def test_files_that_are_named_are_told_apart(pytester: pytest.Pytester, others: Path) -> None:
    found = ids(pytester, others / "a" / "test_same.py", others / "b" / "test_same.py::TestIt::test_x")
    assert found == [f"../others/{name}/test_same.py::TestIt::test_x" for name in ("a", "b")]


def test_below_a_folder_that_is_named_ids_begin_there(pytester: pytest.Pytester, others: Path) -> None:
    """As pytest has it, and as the suite's begin."""
    assert ids(pytester, others) == ["a/test_same.py::TestIt::test_x", "b/test_same.py::TestIt::test_x"]
