from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_memtype.errors import HostError, UsageError
from pytest_memtype.report.record import SCHEMA, apart, append, case_of, read, where_of


def record(**changes: Any) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "kernel": "6.1.0-56-cloud-amd64",
        "kernel_version": "6.1.192-2",
        "hardware": {"cpu": "qemu64", "memory": "256M", "cmdline": ""},
        "test": "test_it[debian:6.1]",
        "tested": "debian:6.1",
        "case": "test_it",
        "guest": 1,
        "step": 1,
        "operation": "fork",
        "actor": "X",
        "arguments": {},
        **changes,
    }


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    append(path, [record()])
    append(path, [])
    append(path, [record(step=2, text="é\x1b\n")])
    assert path.read_bytes().count(b"\n") == 2
    assert b"\x1b" not in path.read_bytes()
    assert [each["step"] for each in read(path)] == [1, 2]


def test_schema_1_has_no_tested_and_no_case(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    old = record(schema=1, test="test_it[debian:6.1.0-56-cloud-amd64]")
    append(path, [{key: value for key, value in old.items() if key not in ("tested", "case")}])
    (found,) = read(path)
    assert (found["tested"], found["case"]) == ("debian:6.1.0-56-cloud-amd64", "test_it")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"schema": 99}\n', "records.jsonl:1: not a record of schema 1"),
        ("[]\n", "records.jsonl:1: not a record of schema 1"),
        (json.dumps(record()) + '\n{"sche', "every line of one is JSON"),
        ("[" * 100_000, "every line of one is JSON"),
        ('{"schema": 1}\n', "records.jsonl:1: not a record: it lacks kernel, kernel_version, hardware, test"),
        ('{"schema": 2}\n', "records.jsonl:1: not a record: it lacks kernel, kernel_version, hardware, test"),
        (json.dumps(record(step="one")), "records.jsonl:1: not a record: it lacks step"),
        (json.dumps(record(requested="WC")), "records.jsonl:1: not a record: it lacks region"),
        (json.dumps(record(arguments=None)), "records.jsonl:1: not a record: it lacks arguments"),
    ],
)
def test_another_file_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as error:
        read(path)
    assert "\n" not in str(error.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read(tmp_path / "nothing")


FILLS_UP = """
import resource, sys
from pathlib import Path
from pytest_memtype.errors import HostError
from pytest_memtype.report.record import append
path = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, resource.RLIM_INFINITY))
try:
    append(path, [{"step": 2, "text": "x" * 60}, {"step": 3, "text": "x" * 60}])
except HostError as error:
    print(error)
"""


def test_a_disk_that_fills_up_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    append(path, [record()])
    command = [sys.executable, "-c", FILLS_UP, str(path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == (
        f"{path}: the record can't be written (File too large); make room, or name another folder with "
        "--memtype-dir\n"
    )
    append(path, [record(step=4)])
    assert [each["step"] for each in read(path)] == [1, 4]


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"can't be written \(No such file or directory\)"):
        append(tmp_path / "gone" / "records.jsonl", [record()])


def test_hosts_that_differ_are_kept_apart_and_others_together() -> None:
    old = {"kernel": "6.1", "qemu": "7.2.22", "accelerator": "tcg"}
    new, other = {**old, "qemu": "10.0.13"}, {**old, "kernel": "5.10"}
    found = apart([old, other, new, old], where_of)
    assert found == {"6.1 (QEMU 7.2.22, tcg)": [old, old], "6.1 (QEMU 10.0.13, tcg)": [new], "5.10": [other]}


@pytest.mark.parametrize("name", [r"test_it.py::test_it[{}]", r"test_it.py::test_it[{}-UC]"])
def test_a_kernel_in_a_folder_whose_name_is_no_ascii(name: str) -> None:
    """pytest escapes it in the id, so that the cases of two such kernels would have nothing in common."""
    expected = name.format("").replace("[]", "").replace("[-", "[")
    assert case_of(name.format(r"tree:/home/j\xf6rg/a"), "tree:/home/jörg/a") == expected
    assert case_of(name.format(r"tree:/home/j\xf6rg/b"), "tree:/home/jörg/b") == expected


@pytest.mark.parametrize(
    ("test", "case"),
    [
        ("a/test_it.py::test_it", "a/test_it.py::test_it"),
        ("a/test_it.py::test_it[k]", "a/test_it.py::test_it"),
        ("a[1]/test_it.py::test_it[k]", "a[1]/test_it.py::test_it"),
        ("a[1]/test_it.py::TestIt::test_it[k-UC]", "a[1]/test_it.py::TestIt::test_it[UC]"),
        ("a[k]/test_it.py::test_it[UC-k]", "a[k]/test_it.py::test_it[UC]"),
        ("a[k-1]/test_it.py::test_it", "a[k-1]/test_it.py::test_it"),
        ("a/test_it.py::test_it[k-a.py::b[1]]", "a/test_it.py::test_it[a.py::b[1]]"),
        # As memtype bisect has it, which knows the file.
        ("TestIt::test_it[k-UC]", "TestIt::test_it[UC]"),
    ],
)
def test_brackets_are_parameters_behind_the_file_alone(test: str, case: str) -> None:
    assert case_of(test, "k") == case
