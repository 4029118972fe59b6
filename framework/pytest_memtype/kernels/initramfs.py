"""The format of an initramfs: a cpio archive in "newc" form, made without root.

The kernel's own ``usr/gen_init_cpio.c`` does this in C; it isn't in Debian's
packages. Its list format is used here, documented in the kernel's
Documentation/driver-api/early-userspace/early_userspace_support.rst, the
archive's in Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_memtype.errors import UsageError

_ALIGNMENT = 4


@dataclass(frozen=True)
class Entry:
    """An entry of the archive: a file, a folder, a link or a device.

    :param name: The path without the leading slash.
    :param mode: File type and permissions, as in ``st_mode``.
    :param data: Contents of a file, or target of a symbolic link.
    :param device: Major and minor number of a device node.
    """

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def read_list(
    text: str, *, files: Mapping[str, Path], where: str, left_out: Collection[str] = ()
) -> Iterator[Entry]:
    """Read the list of an initramfs, one entry a line.

    The lines are ``dir NAME MODE UID GID``, ``file NAME SOURCE MODE UID GID``,
    ``slink NAME TARGET MODE UID GID`` and ``nod NAME MODE UID GID c|b MAJOR MINOR``. User and group are
    root's whatever the line says; every process of the guest starts as root.

    :param text: The list.
    :param files: The file that each SOURCE stands for.
    :param where: Name of the list, for the message of an error.
    :param left_out: SOURCEs whose lines are passed over.
    :raises UsageError: a line has another form.
    """
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        match words:
            case ["dir", name, mode, _, _]:
                yield Entry(_relative(name), stat.S_IFDIR | int(mode, 8))
            case ["file", _, source, _, _, _] if source in left_out:
                continue
            case ["file", name, source, mode, _, _] if source in files:
                yield Entry(_relative(name), stat.S_IFREG | int(mode, 8), files[source].read_bytes())
            case ["slink", name, target, mode, _, _]:
                yield Entry(_relative(name), stat.S_IFLNK | int(mode, 8), target.encode())
            case ["nod", name, mode, _, _, "c" | "b" as kind, major, minor]:
                file_type = stat.S_IFCHR if kind == "c" else stat.S_IFBLK
                yield Entry(_relative(name), file_type | int(mode, 8), device=(int(major), int(minor)))
            case _:
                raise UsageError(f"{where}:{number}: {line.strip()!r} is not a dir, file, slink or nod line")


def archive(entries: Iterable[Entry]) -> bytes:
    """The archive of ``entries``, in their order; a folder comes before what is in it.

    The same entries give the same bytes: times are zero.
    """
    parts = [_member(entry, inode) for inode, entry in enumerate(entries, start=1)]
    return b"".join((*parts, _member(Entry("TRAILER!!!", 0), 0)))


def write(path: Path, entries: Iterable[Entry]) -> None:
    """Write the archive of ``entries`` to a file.

    It is left uncompressed: gzip made no difference to the boot that could be measured
    (6.1 under TCG of QEMU 7.2).
    """
    path.write_bytes(archive(entries))


def write_folder(path: Path, folder: str, files: Mapping[str, bytes], *, mode: int) -> None:
    """Write the archive of one folder of files, which a guest's own archive goes before.

    :param path: The archive.
    :param folder: The folder's path without the leading slash.
    :param files: The contents of the files by their names.
    :param mode: The files' permissions.
    """
    entries = [Entry(f"{folder}/{name}", stat.S_IFREG | mode, content) for name, content in files.items()]
    write(path, [Entry(folder, stat.S_IFDIR | 0o755), *entries])


def _relative(name: str) -> str:
    return os.path.normpath(name).lstrip("/")


def _member(entry: Entry, inode: int) -> bytes:
    name = entry.name.encode() + b"\0"
    fields = (
        inode,
        entry.mode,
        0,  # uid
        0,  # gid
        2 if stat.S_ISDIR(entry.mode) else 1,  # links
        0,  # mtime
        len(entry.data),
        0,  # device of the file system, major
        0,  # and minor
        *entry.device,
        len(name),
        0,  # checksum, unused in newc
    )
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    return _padded(header + name) + _padded(entry.data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _ALIGNMENT)
