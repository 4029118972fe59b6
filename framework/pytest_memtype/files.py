"""Writing files that somebody else may read at the same time."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pytest_memtype.errors import UsageError


def umask() -> int:
    """Which bits the modes of new files are without.

    ``os.umask()`` tells only by setting another, which threads that make files meanwhile would see.
    """
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("Umask:"))
    return int(line.split()[1], 8)


def read_small(path: Path, *, most: int) -> bytes:
    """The contents of a small file that somebody else may have put there, whatever it is instead.

    :param most: Bytes that it has at most.
    :raises OSError: it can't be read, is a link, a device or a pipe, or is larger.
    """
    # Opening a pipe waits for a writer, and what some devices give never ends.
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

    :raises UsageError: it can't be written there.
    """
    with atomically(path) as file:
        file.write(content)


@contextmanager
def atomically(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that gets the name the user gave it when the block ends well, and goes otherwise.

    :raises UsageError: it can't be written there.
    """
    try:
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
