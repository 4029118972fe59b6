"""Reading what reproducers say of their bugs."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_memtype.bugs.catalogue import catalogue, find, is_suites, known_here
from pytest_memtype.bugs.pages import pages, write_pages
from pytest_memtype.errors import UsageError

REPRODUCER = '''"""It leaks.

Reported by Nobody.

Symptom: ``pat_memtype_list`` is long.
"""
import pytest
pytestmark = [
    pytest.mark.layout("firmware"),
    pytest.mark.bug(id="leak", title="it leaks", core="Process.write", fixed="6.16"),
]

@pytest.mark.timeout(5)
def test_leak(guest, bug):
    bug.harm(True, "seen")
'''


def test_facts_story_and_source(tmp_path: Path) -> None:
    (tmp_path / "test_leak.py").write_text(REPRODUCER)
    (found,) = catalogue(tmp_path)
    assert (found.bug.id, found.bug.fixed, found.bug.core) == ("leak", "6.16", "Process.write")
    assert found.story == "Reported by Nobody.\n\nSymptom: ``pat_memtype_list`` is long."
    assert found.source.splitlines()[:2] == ["@pytest.mark.timeout(5)", "def test_leak(guest, bug):"]


def test_a_reproducer_in_a_class(tmp_path: Path) -> None:
    tests = REPRODUCER.replace("@pytest", "    @pytest").replace("def test", "    def test")
    text = tests.replace("    bug.harm", "        bug.harm").replace(
        "\n\n    @", "\n\n@pytest.mark.hardware()\nclass TestLeak:\n    @"
    )
    (tmp_path / "test_leak.py").write_text(text)
    (found,) = catalogue(tmp_path)
    assert found.source.splitlines()[:2] == ["@pytest.mark.hardware()", "class TestLeak:"]
    assert "def test_leak(guest, bug):" in found.source


def test_a_project_may_have_other_names_for_its_tests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\npython_files = check_*.py\n")
    (tmp_path / "check_leak.py").write_text(REPRODUCER)
    (tmp_path / "test_leak.py").write_text(REPRODUCER.replace('"leak"', '"other"'))
    monkeypatch.chdir(tmp_path)
    found, problems = known_here()
    assert problems == []
    assert [each.path for each in found if not is_suites(each)] == [tmp_path / "check_leak.py"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def test_x(): pass", "pytestmark has one marker bug"),
        (REPRODUCER.replace("title=", "name="), "unexpected keyword argument 'name'"),
        (REPRODUCER.replace("import pytest", "import absent_module"), "can't be imported: ModuleNotFound"),
        (REPRODUCER.partition("\n\n@pytest")[0], "it has no test"),
        (
            REPRODUCER.replace("import pytest", "import pytest; pytest.importorskip('absent')"),
            "imported: Skip",
        ),
        (REPRODUCER.replace("import pytest", "raise SystemExit(7)"), "can't be imported: SystemExit: 7"),
        (REPRODUCER.replace("pytest.mark.bug(", "dict("), "pytestmark has one marker bug"),
    ],
)
def test_files_that_tell_nothing(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "test_leak.py").write_text(text)
    with pytest.raises(UsageError, match=f"test_leak.py: .*{message}"):
        catalogue(tmp_path)


def test_two_files_of_one_bug(tmp_path: Path) -> None:
    for name in ("test_a.py", "test_b.py"):
        (tmp_path / name).write_text(REPRODUCER)
    with pytest.raises(UsageError, match=r"test_b\.py: test_a\.py reproduces bug 'leak' already"):
        catalogue(tmp_path)


def test_a_bug_nobody_knows() -> None:
    with pytest.raises(UsageError, match="no bug is called 'heartbleed'; memtype bugs lists them"):
        find("heartbleed")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """One with a reproducer, and one for pages."""
    tests, docs = tmp_path / "tests", tmp_path / "docs"
    tests.mkdir()
    (tests / "test_leak.py").write_text(REPRODUCER)
    docs.mkdir()
    return tests, docs


def test_pages_of_bugs_that_are_no_more_go(folders: tuple[Path, Path]) -> None:
    tests, docs = folders
    (docs / "old.md").write_text('<!-- Made by "memtype bugs pages" from testcases/bugs/test_old.py -->\n')
    write_pages(docs, catalogue(tests))
    assert {path.name: path.read_text() for path in docs.iterdir()} == pages(catalogue(tests), docs)
    page = (docs / "leak.md").read_text()
    assert "**Symptom:** `pat_memtype_list` is long." in page
    assert "| fixed in | 6.16 |" in page
    assert 'bug.harm(True, "seen")' in page
    assert "[leak](leak.md)" in (docs / "README.md").read_text()


def test_a_title_makes_no_cell_more(folders: tuple[Path, Path]) -> None:
    tests, docs = folders
    (tests / "test_leak.py").write_text(REPRODUCER.replace("it leaks", "a | b leaks"))
    write_pages(docs, catalogue(tests))
    assert "| [leak](leak.md) | a \\| b leaks | known | 6.16 |" in (docs / "README.md").read_text()


def test_pages_of_somebody_else_stay(folders: tuple[Path, Path]) -> None:
    tests, docs = folders
    (docs / "notes.md").write_text("mine")
    write_pages(docs, catalogue(tests))
    assert (docs / "notes.md").read_text() == "mine"

    (docs / "README.md").write_text("mine too")
    (docs / "leak.md").write_text('<!-- Made by "memtype bugs pages" long ago -->')
    with pytest.raises(
        UsageError, match=r"README\.md: not made by memtype bugs pages; move it away"
    ) as error:
        write_pages(docs, catalogue(tests))
    assert "\n" not in str(error.value)
    assert (docs / "README.md").read_text() == "mine too"
    assert "long ago" in (docs / "leak.md").read_text()
