"""Checksums of large files, which tell whether a file is as it was when it was saved.

They find damage by a disk, a program or a person, not a hostile change: only this
user can write to the files, see :mod:`pytest_memtype.host.trust`. So zlib's CRC-32 will do, which takes 0.1 s
for the 113 MiB of a default template, where SHA-256 takes 0.2 and BLAKE2b 0.4 (Python 3.11, one core of a
busy host).

A file that was found whole isn't read again by this process while its inode says that it wasn't written to;
nor by the other processes of a run, which share a folder of notes.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_CHUNK: Final = 256 << 10
_ENTRY: Final = struct.Struct("<QI")


@dataclass(frozen=True)
class Seen:
    """The state of a file when it was found whole.

    :param fingerprint: Device, inode, size in bytes, and the times in nanoseconds of the last changes of
        contents and inode.
    :param checksum: The checksum of the contents, as :func:`checksum` returns it.
    """

    fingerprint: tuple[int, ...]
    checksum: str


_seen: dict[Path, Seen] = {}
_notes: Path | None = None


def share_through(folder: Path) -> None:
    """Share with other processes which files were found whole, through a folder that they name, too."""
    global _notes
    _notes = folder


def checksum(descriptor: int) -> str:
    """The checksum of a file's contents, in hexadecimal; holes and zeros in it make no difference.

    :param descriptor: The open file, which has to be seekable.
    :raises OSError: the file can't be read.
    """
    size = os.fstat(descriptor).st_size
    digest = hashlib.blake2b(size.to_bytes(8, "little"), digest_size=16)
    buffer = memoryview(bytearray(_CHUNK))
    zeros = {_CHUNK: zlib.crc32(buffer)}
    for start in _chunks_with_data(descriptor, size):
        got = os.preadv(descriptor, [buffer], start)
        value = zlib.crc32(buffer[:got])
        if got not in zeros:
            zeros[got] = zlib.crc32(bytes(got))
        # Zeros may be a hole of a copy.
        if value != zeros[got]:
            digest.update(_ENTRY.pack(start, value))
    return digest.hexdigest()


def _chunks_with_data(descriptor: int, size: int) -> Iterator[int]:
    position = 0
    while position < size:
        try:
            data = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        hole = os.lseek(descriptor, data, os.SEEK_HOLE)
        position = max(position, data - data % _CHUNK)
        while position < hole:
            yield position
            position += _CHUNK


def checksum_of(path: Path) -> str:
    """The checksum of a file, read anew, in hexadecimal.

    :param path: The file.
    :raises OSError: the file can't be read.
    """
    with path.open("rb") as file:
        return checksum(file.fileno())


def whole(path: Path, expected: str) -> Seen | None:
    """The state of a file whose contents have the expected checksum; None if they have another.

    :param path: The file.
    :param expected: The checksum, as :func:`checksum` returns it.
    :raises OSError: the file can't be read.
    """
    # Not blocking, because a pipe may be in its place.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return None
        now = Seen(_fingerprint(status), expected)
        if _seen.get(path) == now or _is_noted(path, now):
            _seen[path] = now
            return now
        if checksum(descriptor) != expected:
            return None
        # It wasn't written to while it was read.
        if _fingerprint(os.fstat(descriptor)) == now.fingerprint:
            _seen[path] = now
            _note(path, now)
        return now
    finally:
        os.close(descriptor)


def still_whole(descriptor: int, seen: Seen) -> bool:
    """Whether an open file, which may have lost its name since, still is as it was when it was found whole.

    :param descriptor: The open file.
    :param seen: The state of the file when it was found whole.
    :raises OSError: the file can't be read.
    """
    return _fingerprint(os.fstat(descriptor)) == seen.fingerprint or checksum(descriptor) == seen.checksum


def _fingerprint(status: os.stat_result) -> tuple[int, ...]:
    # The time of the inode's last change can't be set back, unlike that of the contents.
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _is_noted(path: Path, seen: Seen) -> bool:
    if _notes is None:
        return False
    try:
        return (_notes / _name(path)).read_text() == str(seen)
    except (OSError, ValueError):
        return False


def _note(path: Path, seen: Seen) -> None:
    if _notes is None:
        return
    # Half a note says nothing, and a full disk costs the other processes some time.
    with suppress(OSError):
        _notes.mkdir(exist_ok=True)
        (_notes / _name(path)).write_text(str(seen))


def _name(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:32]
