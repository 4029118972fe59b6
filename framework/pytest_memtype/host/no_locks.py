"""The error of a file system that has no locks, as some network file systems and those of user space."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pytest_memtype.errors import HostError

# flock(2), and EOPNOTSUPP of file systems below it.
_NO_LOCKS: Final = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@contextmanager
def locking(path: Path, *, advice: str = "set MEMTYPE_CACHE to a folder on another one") -> Iterator[None]:
    """Name the file whose lock is taken in this block, where its file system has no locks.

    :param path: The file.
    :param advice: What to do about it.
    :raises HostError: its file system has no locks.
    """
    try:
        yield
    except NotImplementedError:
        # filelock's word for ENOSYS, where it doesn't make do with a file that is there or not.
        raise HostError(f"{path}: this file system has no locks; {advice}") from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        why = os.strerror(error.errno)
        raise HostError(f"{path}: this file system has no locks ({why}); {advice}") from None
