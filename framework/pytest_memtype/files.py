"""Writing files that somebody else may read at the same time."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from pytest_memtype.errors import UsageError


def write_atomically(path: Path, content: bytes) -> None:
    """Put ``content`` into a file the user named: readers see the old file or the new one, whole.

    :raises UsageError: it can't be written there.
    """
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.absolute().parent, prefix=f".{path.name}-", delete=False
        ) as file:
            try:
                file.write(content)
                file.flush()
                # The mode of a file that is made in the usual way.
                mask = os.umask(0)
                os.umask(mask)
                os.fchmod(file.fileno(), 0o666 & ~mask)
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise UsageError(f"{path}: can't be written ({error.strerror}); name another file") from None
