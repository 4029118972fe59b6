"""What memtype run takes where no tests are named: those of the folder, or the package's suite."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pytest_memtype.host import resources

PROGRAM = "from pytest_memtype.cli import main; main()"


def collected(folder: Path, *arguments: str, program: str = PROGRAM) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-c",
        program,
        "run",
        "--kernel",
        "debian:bookworm",
        "--accel",
        "tcg",
        "-n",
        "0",
    ]
    return subprocess.run(
        [*command, "--collect-only", "-q", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_mine.py").write_text("def test_mine(memtype_kernel): ...\n")
    return tmp_path


def test_tests_of_ones_own_come_first(mine: Path) -> None:
    done = collected(mine)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "tests/test_mine.py::test_mine[debian:bookworm]"
    assert "1 test collected" in done.stdout
    assert "the tests of this folder are run; memtype run --suite runs those of the package" in done.stderr


@pytest.mark.parametrize(
    "arguments", [["--junitxml", "junit.xml"], ["-k", "mine"], ["-o", "console_output_style=count"]]
)
def test_the_value_of_an_option_names_no_tests(mine: Path, arguments: list[str]) -> None:
    """The second run finds the report of the first; and a folder may be called as an expression is."""
    (mine / "junit.xml").touch()
    (mine / "mine").mkdir()
    done = collected(mine, *arguments)
    assert done.stdout.splitlines()[0] == "tests/test_mine.py::test_mine[debian:bookworm]", done.stderr


def test_a_folder_behind_a_flag_is_one(mine: Path) -> None:
    done = collected(mine, "-x", "tests")
    assert "1 test collected" in done.stdout
    assert "the tests of this folder" not in done.stderr


def test_a_folder_of_the_checkout_behind_a_flag_is_one(mine: Path) -> None:
    done = collected(mine, "-v", str(resources.testcases() / "bugs"), "-k", "wb_first or no_such_test")
    assert "test_mine" not in done.stdout
    assert "the tests of this folder" not in done.stderr


def test_the_status_of_a_pytest_that_a_test_has_ended_is_no_traceback(mine: Path) -> None:
    (mine / "conftest.py").write_text(
        "import pytest\ndef pytest_collection_finish():\n    pytest.exit('enough', returncode=10)\n"
    )
    done = collected(mine)
    assert (done.returncode, "Traceback" in done.stderr) == (3, False), done.stderr


def test_the_suite_is_asked_for(mine: Path) -> None:
    done = collected(mine, "--suite", "-k", "test_lookup")
    assert "test_mine" not in done.stdout
    assert "test_lookup.py::" in done.stdout
    assert "the tests of this folder" not in done.stderr


def test_where_no_tests_are_it_is_the_suite(tmp_path: Path) -> None:
    assert "test_lookup.py::" in collected(tmp_path, "-k", "test_lookup").stdout


def test_the_suite_may_lie_below_a_folder_with_spaces(tmp_path: Path) -> None:
    suite = tmp_path / "it's my project" / "testcases"
    suite.mkdir(parents=True)
    (suite / "test_theirs.py").write_text("def test_theirs(memtype_kernel): ...\n")
    (here := tmp_path / "here").mkdir()
    there = f"from pathlib import Path; resources.testcases = lambda: Path({str(suite)!r})"
    done = collected(here, program=f"from pytest_memtype.host import resources; {there}; {PROGRAM}")
    assert "test_theirs[debian:bookworm]" in done.stdout, done.stderr


def test_a_projects_names_for_its_tests_are_not_the_suites(tmp_path: Path) -> None:
    (suite := tmp_path / "package" / "testcases").mkdir(parents=True)
    (suite / "test_theirs.py").write_text("class TestIt:\n    def test_theirs(self): ...\n")
    (here := tmp_path / "here").mkdir()
    (here / "pytest.ini").write_text(
        "[pytest]\npython_files = check_*.py\npython_classes = Check\npython_functions = check_*\n"
    )
    there = (
        f"resources.testcases = lambda: Path({str(suite)!r}); suite._made_ready = lambda *_, **__: object()"
    )
    imports = "from pathlib import Path; from pytest_memtype.host import resources"
    program = f"{imports}; from pytest_memtype.run import suite; {there}; {PROGRAM}"
    assert "TestIt::test_theirs" in collected(here, program=program).stdout
    (here / "check_mine.py").write_text("class CheckIt:\n    def check_mine(self): ...\n")
    assert "CheckIt::check_mine" in collected(here, program=program).stdout
    assert "TestIt::test_theirs" in collected(here, "--suite", program=program).stdout


def test_an_option_that_nobody_knows_is_answered_with_those_like_it(mine: Path) -> None:
    done = collected(mine, "--kernl", "debian:trixie", "--maxfial=1")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert [line for line in lines if line.startswith("memtype: --")] == [
        "memtype: --kernl; did you mean '--kernel'?"
    ]
