"""The folder of a site: made whole beside its place, and then put there."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pytest_memtype.errors import HostError, UsageError, reason

MARK: Final = ".memtype-report"
"""A file that only a folder of this package's has: another one isn't replaced."""


def check_target(folder: Path) -> None:
    """Check that a site may be written to a folder: it isn't there, is empty, or holds an earlier site.

    :param folder: The folder that the user named.
    :raises UsageError: something else is there.
    """
    if not folder.absolute().parent.is_dir():
        raise UsageError(f"{folder}: there is no folder {folder.parent} to make it in; make that first")
    if not (folder.is_symlink() or folder.exists()):
        return
    if folder.is_symlink() or not folder.is_dir():
        raise UsageError(f"{folder}: is no folder; name one for the report")
    if any(folder.iterdir()) and not (folder / MARK).is_file():
        raise UsageError(f"{folder}: holds other files than a report; name a new folder for it")


@contextlib.contextmanager
def made_whole(folder: Path) -> Iterator[Path]:
    """A folder to make a site in, which takes its place if the block ends well, and is removed if not.

    :param folder: Where the site is to be.
    :raises UsageError: something else is there.
    :raises HostError: it can't be written.
    """
    check_target(folder)
    place = folder.absolute()
    try:
        # In the same file system, so that the last step is a renaming.
        with tempfile.TemporaryDirectory(prefix=f".{place.name}-", dir=place.parent) as work:
            made = Path(work, "report")
            made.mkdir()
            (made / MARK).touch()
            yield made
            if place.exists():
                place.rename(Path(work, "earlier"))
            made.rename(place)
    except OSError as error:
        raise HostError(f"{folder}: the report can't be written: {reason(error)}; make room") from None
    except shutil.Error as error:
        raise HostError(f"{folder}: the report can't be written: {error}") from None
