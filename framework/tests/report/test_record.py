from __future__ import annotations

from pathlib import Path

import pytest

from pytest_memtype.errors import UsageError
from pytest_memtype.report.record import SCHEMA, append, read


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    append(path, [{"schema": SCHEMA, "step": 1}])
    append(path, [])
    append(path, [{"schema": SCHEMA, "step": 2, "text": "é\x1b\n"}])
    assert path.read_bytes().count(b"\n") == 2
    assert b"\x1b" not in path.read_bytes()
    assert [record["step"] for record in read(path)] == [1, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"schema": 99}\n', "records.jsonl:1: not a record of schema 1"),
        ("[]\n", "records.jsonl:1: not a record of schema 1"),
        ('{"schema": 1}\n{"sche', "every line of one is JSON"),
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
