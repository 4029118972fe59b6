from pathlib import Path

import pytest

from pytest_memtype.errors import UsageError
from pytest_memtype.files import write_atomically


def test_new_and_old_file(tmp_path: Path) -> None:
    path = tmp_path / "picture.svg"
    for content in (b"one", b"two"):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]
    (tmp_path / "ordinary").write_bytes(b"")
    assert path.stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_old_file_stays_when_the_new_cannot_be_written(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    for path, says in (
        (taken, "is a folder; name a regular file"),
        (tmp_path / "missing" / "picture.svg", r"can't be written \(.*\); name another file"),
    ):
        with pytest.raises(UsageError, match=says) as refusal:
            write_atomically(path, b"content")
        assert "\n" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == [taken]
