import os
from pathlib import Path

import pytest

from pytest_memtype.errors import UsageError
from pytest_memtype.host.files import read_small, write_atomically


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


def test_small_files_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_small(tmp_path / "file", most=5) == b"12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        read_small(tmp_path / "file", most=4)


@pytest.mark.timeout(60)
def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    """A pipe would be waited for, and /dev/zero never ends."""
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "file").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "link", tmp_path / "pipe", tmp_path, tmp_path / "none", Path("/dev/zero")):
        with pytest.raises(OSError, match=r".+"):
            read_small(path, most=1 << 20)
