"""The summary of a job, and annotations, as GitHub's runner reads them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from memtype_support.results import EVIL, evil, made, of_each_status

from pytest_memtype.report.job_summary import (
    LARGEST,
    SUMMARY,
    add_to_summary,
    code,
    error_lines,
    job_summary,
)
from pytest_memtype.report.result import Status


def test_a_row_for_each_kernel() -> None:
    text = job_summary(
        [*of_each_status(), made("t.py::test_it", kernel="debian:trixie")], run=".memtype/runs/1"
    )
    assert text.startswith("## memtype: 3 of 8 tests failed\n")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert rows == [
        "| ` debian:bookworm ` ` 6.1.0-50-cloud-amd64 ` | 3 | 3 | 1 | 21 | 7 |",
        "| ` debian:trixie ` ` 6.12.1-cloud-amd64 ` | 1 | 0 | 0 | 3 | 1 |",
    ]
    assert "- ` a/test_one.py::TestIt::test_fails[debian:bookworm] ` failed<br>` it did `" in text
    assert "` .memtype/runs/1 `" in text


def test_bugs_have_a_table() -> None:
    text = job_summary([made("t.py::t", more={"bug": "wb-first", "bug.outcome": "ABSENT"})], run="r")
    assert text.startswith("## memtype: 1 test, as expected\n")
    assert "| ` wb-first ` | ` debian:bookworm ` | ` ABSENT ` |" in text


def test_a_thousand_failures_are_no_thousand_lines() -> None:
    text = job_summary([made(f"t.py::test_{i}", Status.FAILED) for i in range(1000)], run="r")
    assert text.count("\n- ") == 30
    assert "... and 970 more." in text


@pytest.mark.parametrize("text", [EVIL, "`", "``x", "a | b", "a\\|b", "\u2028x\r\ny"])
def test_code_is_one_span_whatever_is_in_it(text: str) -> None:
    """By the rules of CommonMark 6.1: a span ends at a run of backticks as long as the one that began it."""
    made = code(text)
    fence = re.match("`+", made)
    assert fence is not None
    assert [run for run in re.findall("`+", made) if run == fence[0]] == [fence[0]] * 2
    assert made.endswith(f" {fence[0]}")
    assert made.isprintable()
    # In a table it would begin a new cell.
    assert re.search(r"(?<!\\)\|", made) is None


def test_annotations_name_file_and_line() -> None:
    first, *_ = error_lines(of_each_status())
    name = "TestIt%3A%3Atest_fails[debian%3Abookworm]"
    assert first == f"::error file=a/test_one.py,line=12,title={name}::it did"


def test_what_a_guest_prints_is_no_command_of_its_own() -> None:
    (line,) = error_lines([evil()])
    assert line.isprintable()
    assert line.count("::") == 2 + line.rpartition("title=")[2].partition("::")[2].count("::")
    assert "%0A::error" not in line


def test_github_shows_ten_and_is_sent_no_more() -> None:
    assert len(error_lines([made(f"t.py::test_{i}", Status.FAILED) for i in range(11)])) == 10


@pytest.mark.parametrize("room", [LARGEST, 1000, 48, 47, 1, 0, -1])
def test_the_file_grows_no_larger_than_github_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """Of a larger one it shows nothing; another program of the same step may have filled it."""
    path = tmp_path / "summary"
    path.write_bytes(b"x" * (LARGEST - room))
    monkeypatch.setenv(SUMMARY, str(path))
    text = "a line\n" * (LARGEST // 7 + 1)
    for _ in range(2):
        add_to_summary(text)
        assert path.stat().st_size <= max(LARGEST, LARGEST - room)
    if room >= 1000:
        assert b"a line\n\n(The rest is left out: GitHub takes 1 MiB.)\n" in path.read_bytes()


def test_a_bar_is_a_bar_outside_of_a_table() -> None:
    text = job_summary([made("t.py::test_it[a|b]", Status.FAILED)], run="r")
    assert "- ` t.py::test_it[a|b][debian:bookworm] ` failed" in text
