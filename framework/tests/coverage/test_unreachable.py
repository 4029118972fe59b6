"""Lines that no guest can run, and what is left without them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_memtype.coverage.lines import SourceFile
from pytest_memtype.coverage.unreachable import Unreachable, reachable, unreachable
from pytest_memtype.errors import UsageError
from pytest_memtype.host.resources import kernel_sets

TEXT = """\
int one(void)
{
\treturn 1;
}
int two(int n)
{
\tif (n)
\t\treturn 1;
\treturn 2;
}
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "a.c").write_text(TEXT)
    return tmp_path


def file(**run: int) -> SourceFile:
    """a.c, of which nothing was run but what is given, as line3=1."""
    numbers = {"one": (1, 3), "two": (5, 7, 8, 9)}
    return SourceFile(
        "a.c",
        lines={n: run.get(f"line{n}", 0) for each in numbers.values() for n in each},
        branches={7: [0, 0]},
        functions={name: run.get(f"line{each[0]}", 0) for name, each in numbers.items()},
        within={n: {name} for name, each in numbers.items() for n in each},
    )


def left(known: Unreachable, found: SourceFile, source: Path) -> SourceFile:
    return reachable({"a.c": found}, [known], source)["a.c"]


def test_a_whole_function(source: Path) -> None:
    rest = left(Unreachable("a.c", "no n", ("two",), ()), file(line1=1, line3=1), source)
    assert (rest.lines_run, rest.branches_taken, rest.functions_called) == ((2, 2), (0, 0), (1, 1))


def test_lines_of_all_functions_and_of_one(source: Path) -> None:
    everywhere = left(Unreachable("a.c", "why", (), ("return 1;",)), file(), source)
    assert sorted(everywhere.lines) == [1, 5, 7, 9]
    of_one = left(Unreachable("a.c", "why", ("two",), ("return 1;", "if (n)")), file(), source)
    assert (sorted(of_one.lines), of_one.branches, len(of_one.functions)) == ([1, 3, 5, 9], {}, 2)


def test_what_was_run_all_the_same_is_counted(source: Path) -> None:
    """The list is wrong there."""
    rest = left(Unreachable("a.c", "why", ("one", "two"), ()), file(line5=1, line9=2), source)
    assert (rest.lines_run, rest.functions_called) == ((2, 2), (1, 1))


def test_other_files_and_sources_that_are_gone(source: Path) -> None:
    assert len(left(Unreachable("b.c", "why", ("one",), ()), file(), source).lines) == 6
    (source / "a.c").unlink()
    assert len(left(Unreachable("a.c", "why", (), ("return 1;",)), file(), source).lines) == 6
    assert len(left(Unreachable("a.c", "why", ("one",), ()), file(), source).lines) == 4


@pytest.mark.parametrize("text", ["[[unreachable]]\nfile = 'a.c'", "unreachable = 1", "x", "[a]"])
def test_a_list_that_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "list.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"list\.toml"):
        unreachable(path)


def test_the_project_s_list_says_why() -> None:
    known = unreachable(kernel_sets() / "coverage" / "unreachable.toml")
    assert known
    assert all(each.why and (each.functions or each.lines) for each in known)
