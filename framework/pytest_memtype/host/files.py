"""Files that the user names: regular ones are read and written, and nothing else.

A pipe never ends or never begins, and a device has no end. A process that writes as root would put a file in
the place of a device, or of what another user's link leads to.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO, Final

from pytest_memtype.errors import UsageError

_KINDS: Final = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFLNK: "a link",
}

#: Bytes: more than any file that is written by hand has.
WRITTEN_BY_HAND: Final = 1 << 20


def named_path(text: str, *, what: str) -> Path:
    """The absolute path that a user has written, with ``~`` as a shell has it.

    :param text: The path as the user wrote it.
    :param what: The purpose of the path, as the beginning of an error's message.
    :raises UsageError: the path names a home that doesn't exist, or can be no path.
    """
    if "\0" in text:
        raise UsageError(f"{what} {text!r}: no path has a NUL in it")
    try:
        return Path(text).expanduser().absolute()
    except (RuntimeError, OSError):
        raise UsageError(f"{what} {text!r}: there is no such home folder; write the path in full") from None


def _check_kind(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise UsageError(f"{path}: is {kind}; name a regular file")


@contextmanager
def opened(path: Path, *, most: int | None = None) -> Iterator[BinaryIO]:
    """Open a regular file that the user named, for reading.

    :param path: The file.
    :param most: The most bytes that it may have; None for any number.
    :raises UsageError: the file can't be read, is larger, or no regular file.
    """
    try:
        # Opening a pipe would wait for a writer, and opening a terminal could make it ours.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{path}: can't be read ({why}); name another file") from None
    try:
        status = os.fstat(descriptor)
        # In front of fdopen(), which refuses a folder in words of its own.
        _check_kind(path, status)
    except UsageError:
        os.close(descriptor)
        raise
    with os.fdopen(descriptor, "rb") as file:
        if most is not None and status.st_size > most:
            raise UsageError(f"{path}: is larger than the {most >> 20} MiB of any such file; name another")
        yield file


def read_file(path: Path, *, most: int) -> bytes:
    """The contents of a regular file that the user named.

    :param path: The file.
    :param most: The most bytes that it may have.
    :raises UsageError: the file can't be read, is larger, or no regular file.
    """
    with opened(path, most=most) as file:
        try:
            # It may have grown; a file of /proc says that it is empty.
            content = file.read(most + 1)
        except OSError as error:
            raise UsageError(f"{path}: can't be read ({error.strerror}); name another file") from None
    if len(content) > most:
        raise UsageError(f"{path}: is larger than the {most >> 20} MiB of any such file; name another")
    return content


def read_text(path: Path, *, most: int = WRITTEN_BY_HAND) -> str:
    """The text of a regular file that the user named, in UTF-8.

    :param path: The file.
    :param most: The most bytes that it may have.
    :raises UsageError: the file can't be read, is larger, no regular file, or no text.
    """
    try:
        return read_file(path, most=most).decode()
    except UnicodeDecodeError:
        raise UsageError(f"{path}: is no text in UTF-8; name another file") from None


def umask() -> int:
    """The bits that the modes of new files are without.

    ``os.umask()`` tells only by setting another, which threads that make files meanwhile would see.
    """
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("Umask:"))
    return int(line.split()[1], 8)


def read_small(path: Path, *, most: int) -> bytes:
    """The contents of a small file that another user may have replaced by anything.

    :param path: The file.
    :param most: The most bytes that it may have.
    :raises OSError: the file can't be read, is a link, a device or a pipe, or is larger.
    """
    # Opening a pipe waits for a writer, and some devices have no end.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a file", str(path))
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"larger than {most} bytes", str(path))
    return content


def write_atomically(path: Path, content: bytes) -> None:
    """Put ``content`` into a file the user named: readers see the old file or the new one, whole.

    :param path: The file; its folder exists.
    :param content: The new contents.
    :raises UsageError: the file can't be written there.
    """
    with atomically(path) as file:
        file.write(content)


@contextmanager
def atomically(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file, which gets the user's name if the block ends well, and is removed if not.

    :param path: The file that the user named; its folder exists.
    :raises UsageError: the file can't be written there, or the name is that of something that is no regular
        file.
    """
    try:
        with suppress(FileNotFoundError):
            _check_kind(path, path.lstat())
        with tempfile.NamedTemporaryFile(
            dir=path.absolute().parent, prefix=f".{path.name}-", delete=False
        ) as file:
            try:
                yield file
                file.flush()
                # The mode of a file that is made in the usual way.
                os.fchmod(file.fileno(), 0o666 & ~umask())
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise UsageError(f"{path}: can't be written ({error.strerror}); name another file") from None
