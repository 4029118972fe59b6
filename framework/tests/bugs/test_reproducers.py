"""The reproducers of the suite: each can fail, and their pages are up to date."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pytest_memtype
from pytest_memtype.bugs.catalogue import catalogue
from pytest_memtype.bugs.pages import pages
from pytest_memtype.host import resources

DOCS = Path(__file__).resolve().parents[3] / "docs" / "bugs"


@pytest.mark.parametrize("kernel", ["debian:bookworm", "debian:bullseye", "debian:trixie-backports"])
def test_without_its_core_operation_every_reproducer_fails(
    kernel: str, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the bug is absent: a test that did nothing must not be taken for a kernel without it."""
    package = Path(pytest_memtype.__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", str(package))
    result = pytester.runpytest_subprocess(
        *("-p", "no:cacheprovider", "-p", "memtype_support.disabled_operation", "-rA", "--tb=line"),
        *("--import-mode=importlib", "-o", "addopts=", "--kernel", kernel),
        *("--memtype-dir", str(pytester.path / ".memtype")),
        *(str(each.path) for each in catalogue()),
    )
    outcomes = [
        (match[1], match[2])
        for match in (re.match(r"(PASSED|FAILED|ERROR|SKIPPED) (\S+)", line) for line in result.outlines)
        if match
    ]
    for each in catalogue():
        names = re.findall(r"def (test_\w+)\([^)]*\bbug: Sighting", each.source)
        reproducing = {f"::{name}[" for name in names}
        assert reproducing, each.path
        own = [
            outcome
            for outcome, test in outcomes
            if each.path.name in test and any(name in test for name in reproducing)
        ]
        assert own, f"{each.path.name} didn't run"
        assert set(own) == {"FAILED"}, f"{each.path.name} without {each.bug.core}: {own}"


def test_each_bug_has_a_file_of_its_own() -> None:
    names = {each.path.name for each in catalogue()}
    assert names == {path.name for path in (resources.testcases() / "bugs").glob("test_*.py")}


def test_pages_are_up_to_date() -> None:
    """If not: memtype bugs pages."""
    wanted = pages(catalogue())
    assert {path.name: path.read_text() for path in DOCS.glob("*.md")} == wanted


def test_stories_say_what_there_is_to_know() -> None:
    for each in catalogue():
        for part in ("Symptom: ", "Cause: ", "Fix: ", "Source: "):
            assert re.search(rf"^{part}", each.story, re.MULTILINE), f"{each.path.name}: no {part!r}"


def test_names_are_not_used_twice() -> None:
    """Outside pytest's root folder a test's id lacks its file, and records are found by the id."""
    names = [
        name for each in catalogue() for name in re.findall(r"^def (test_\w+)", each.source, re.MULTILINE)
    ]
    assert sorted(names) == sorted(set(names))
