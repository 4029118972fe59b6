"""Notes that a mirror hasn't got what a kept index names: such an index is read anew, whatever its age.

With a new version of a kernel Debian's mirrors drop the one before, at once.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path


def note_dropped(suite: str, *, cache: Path) -> None:
    """Note that packages of a suite are gone which its kept index may name.

    :param suite: The name of the suite.
    :param cache: The cache folder.
    """
    # Without an index there is no folder, and nothing to read anew.
    with suppress(OSError):
        _note(suite, cache).touch()


def dropped_since(suite: str, moment: float, *, cache: Path) -> bool:
    """Whether packages of a suite were found to be gone after a moment.

    :param suite: The name of the suite.
    :param moment: The moment, in seconds since the epoch.
    :param cache: The cache folder.
    """
    try:
        # A note of a clock that was set back since would have the index read at each command.
        return moment < _note(suite, cache).stat().st_mtime <= time.time()
    except OSError:
        return False


def _note(suite: str, cache: Path) -> Path:
    return cache / "index" / f"{suite}.dropped"
