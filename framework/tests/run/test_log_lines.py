"""What a run prints where nobody sees characters come: whole lines."""

from __future__ import annotations

import io

import pytest
from memtype_support.inner_pytest import run
from rich.console import Console

from pytest_memtype.host.progress import is_log, is_terminal, shown

TESTS = """
import pytest

@pytest.mark.parametrize("number", range(20))
def test_it(number):
    assert number != 7

@pytest.mark.skip
def test_skipped():
    pass
"""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def _log_lines(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        "from pytest_memtype.run.log_lines import LogLines\n"
        "def pytest_configure(config):\n"
        "    config.pluginmanager.register(LogLines())\n"
    )
    pytester.makepyfile(test_it=TESTS)


@pytest.mark.usefixtures("_log_lines")
@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_line_for_each_tenth(pytester: pytest.Pytester, workers: str) -> None:
    result = run(pytester, "-n", workers, "-rN")
    result.assert_outcomes(passed=19, failed=1, skipped=1)
    lines = [line for line in result.outlines if " of 21 tests, " in line]
    assert [line.partition(" ")[0] for line in lines] == [
        "2",
        "4",
        "6",
        "8",
        "10",
        "12",
        "14",
        "16",
        "18",
        "20",
        "21",
    ]
    assert lines[-1] == "21 of 21 tests, 1 failed"
    assert not [line for line in result.outlines if line.startswith(("....", "test_it.py ."))]
    assert "%]" not in result.stdout.str()


@pytest.mark.usefixtures("_log_lines")
@pytest.mark.parametrize("workers", ["0", "2"])
def test_the_summary_keeps_its_words(pytester: pytest.Pytester, workers: str) -> None:
    result = run(pytester, "-n", workers, "-rfs")
    result.stdout.fnmatch_lines(["SKIPPED [[]1[]] test_it.py:*"])
    result.stdout.fnmatch_lines(["FAILED test_it.py::test_it[[]7[]] *"])


@pytest.mark.usefixtures("_log_lines")
def test_with_v_each_test_has_its_line(pytester: pytest.Pytester) -> None:
    result = run(pytester, "-v")
    assert " of 21 tests" not in result.stdout.str()
    assert len([line for line in result.outlines if "PASSED" in line]) == 19


@pytest.mark.parametrize("name", ["CI", "NO_COLOR"])
def test_a_terminal_of_ci_is_a_log(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert not is_log(Terminal())
    assert is_log(io.StringIO())
    monkeypatch.setenv(name, "1")
    assert is_log(Terminal())
    file = Terminal()
    console = Console(file=file, force_terminal=True, width=200)
    assert not is_terminal(console)
    with shown(console) as progress:
        progress("downloading a kernel")
    assert file.getvalue() == "downloading a kernel\n"
