import stat
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_memtype.errors import UsageError
from pytest_memtype.host import resources
from pytest_memtype.kernels.initramfs import Entry, archive, read_list, write

# Documentation/driver-api/early-userspace/buffer-format.rst: the magic, then 13 fields of 8 hex digits.
FIELDS = (
    *("ino", "mode", "uid", "gid", "nlink", "mtime", "filesize"),
    *("maj", "min", "rmaj", "rmin", "namesize", "chksum"),
)
HEADER = 6 + 8 * len(FIELDS)


@dataclass(frozen=True)
class Member:
    name: str
    fields: dict[str, int]
    data: bytes


def unpack(data: bytes) -> list[Member]:
    """Read a newc archive as buffer-format.rst describes it, apart from the code under test."""
    members, at = [], 0
    while True:
        assert at % 4 == 0, "a header starts on a multiple of 4"
        header = data[at : at + HEADER]
        assert header[:6] == b"070701"
        numbers = [int(header[6 + 8 * i : 14 + 8 * i], 16) for i in range(len(FIELDS))]
        fields = dict(zip(FIELDS, numbers, strict=True))
        name = data[at + HEADER : at + HEADER + fields["namesize"]]
        assert name.endswith(b"\0")
        start = at + HEADER + fields["namesize"]
        start += -start % 4
        end = start + fields["filesize"]
        members.append(Member(name[:-1].decode(), fields, data[start:end]))
        at = end + -end % 4
        if members[-1].name == "TRAILER!!!":
            assert at == len(data)
            return members[:-1]


def test_a_list_becomes_an_archive(tmp_path: Path) -> None:
    (tmp_path / "program").write_bytes(b"\x7fELF!")
    listing = """
    # a comment
    dir /dev 0755 0 0
    nod /dev/console 0600 0 0 c 5 1
    file /init program 0755 0 0   # another
    slink /bin/sh busybox 0777 0 0
    """
    entries = read_list(listing, files={"program": tmp_path / "program"}, where="list")
    write(tmp_path / "archive", entries)
    members = {member.name: member for member in unpack((tmp_path / "archive").read_bytes())}

    assert list(members) == ["dev", "dev/console", "init", "bin/sh"]
    assert members["dev"].fields["mode"] == stat.S_IFDIR | 0o755
    console = members["dev/console"].fields
    assert (console["mode"], console["rmaj"], console["rmin"]) == (stat.S_IFCHR | 0o600, 5, 1)
    assert members["init"].fields["mode"] == stat.S_IFREG | 0o755
    assert members["init"].data == b"\x7fELF!"
    assert members["bin/sh"].fields["mode"] == stat.S_IFLNK | 0o777
    assert members["bin/sh"].data == b"busybox"
    # Two names with one inode number would be taken for hard links of one file.
    assert len({member.fields["ino"] for member in members.values()}) == len(members)


@pytest.mark.parametrize("size", range(9))
def test_every_length_is_padded(size: int) -> None:
    entries = [Entry("a" * (size + 1), stat.S_IFREG | 0o644, bytes(range(size))), Entry("next", stat.S_IFDIR)]
    first, second = unpack(archive(entries))
    assert (first.name, first.data) == ("a" * (size + 1), bytes(range(size)))
    assert second.name == "next"


@pytest.mark.parametrize(
    "line", ["file /init other 0755 0 0", "dir /dev 0755", "nod /dev/x 0600 0 0 p 1 2", "socket /x 0600 0 0"]
)
def test_a_line_that_is_none_is_named(line: str) -> None:
    with pytest.raises(UsageError, match=r"^some\.list:2: "):
        list(read_list(f"\n{line}\n", files={}, where="some.list"))


def test_the_guests_own_list(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("agent", "busybox", "memtype.ko")}
    for path in files.values():
        path.write_bytes(path.name.encode())
    listing = resources.guest_sources() / "initramfs" / "initramfs.list"
    members = {
        member.name: member
        for member in unpack(archive(read_list(listing.read_text(), files=files, where=str(listing))))
    }
    assert members["init"].data == b"agent"
    assert members["memtype.ko"].data == b"memtype.ko"
    assert members["bin/sh"].data == b"busybox"
    for name in members:
        parent = name.rpartition("/")[0]
        assert not parent or list(members).index(parent) < list(members).index(name)
