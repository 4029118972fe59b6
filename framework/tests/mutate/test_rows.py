"""The file of rows: what is taken over from an earlier run."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from pytest_memtype.mutate.rows import KILLED, LIVED, TROUBLE, Row, add, fingerprint, read

NOTICED = Row("one", KILLED, ("test_a.py::test_it",), 1.5, against="this")


def test_rows_come_back(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    assert read(file, against="this", all_tests=False) == {}
    lived = Row("two", LIVED, seconds=2.0, against="this")
    add(file, NOTICED)
    add(file, lived)
    assert read(file, against="this", all_tests=False) == {"one": NOTICED, "two": lived}
    assert read(file, against="that", all_tests=False) == {}
    # A later row replaces an earlier one.
    add(file, replace(lived, outcome=KILLED))
    assert read(file, against="this", all_tests=False)["two"].outcome == KILLED


def test_half_a_line_and_a_fault_of_the_host_are_no_rows(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    add(file, NOTICED)
    add(file, Row("two", TROUBLE, note="the disk is full", against="this"))
    whole = file.read_bytes()
    file.write_bytes(whole + whole[: len(whole) // 3] + b"\n")
    assert read(file, against="this", all_tests=False) == {"one": NOTICED}


def test_a_row_behind_half_a_line_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    add(file, replace(NOTICED, mutant="lost"))
    file.write_bytes(file.read_bytes()[:-9])
    for name in ("one", "two"):
        add(file, replace(NOTICED, mutant=name))
    assert list(read(file, against="this", all_tests=False)) == ["one", "two"]


def test_a_suite_may_have_names_of_any_bytes(tmp_path: Path) -> None:
    before = fingerprint("kernel", tmp_path)
    (tmp_path / os.fsdecode(b"caf\xe9.py")).touch()
    assert fingerprint("kernel", tmp_path) != before


def test_one_failing_test_is_not_all_of_them(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    add(file, NOTICED)
    add(file, Row("two", LIVED, against="this"))
    add(file, replace(NOTICED, mutant="three", all_tests=True))
    # All tests passed where a fault lived, whatever was asked.
    assert read(file, against="this", all_tests=True).keys() == {"two", "three"}


def test_a_fingerprint_is_of_the_kernel_and_of_each_test(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text("")
    first = fingerprint("kernel", tmp_path)
    assert fingerprint("kernel", tmp_path) == first
    assert fingerprint("other", tmp_path) != first
    (tmp_path / "notes.txt").write_text("none of the tests")
    (tmp_path / ".#test_a.py").symlink_to("me@here.1234:5678")
    (tmp_path / "folder.py").mkdir()
    assert fingerprint("kernel", tmp_path) == first
    (tmp_path / "test_a.py").write_text("# changed")
    assert fingerprint("kernel", tmp_path) != first
