"""Whether a folder has tests of a user's own, which ``memtype run`` runs there instead of the suite."""

from __future__ import annotations

import fnmatch
import os
from pathlib import Path
from typing import Final

from pytest_memtype.host import resources
from pytest_memtype.host.project import is_of_tests, patterns_of_tests

# As pytest has it (norecursedirs): folders in which it looks for none.
_ELSEWHERE: Final = (".*", "_darcs", "build", "CVS", "dist", "node_modules", "venv", "{arch}", "*.egg")
# At the top of each source tree of Linux: its scripts and tools have Python tests of their own.
_LINUX: Final = frozenset({"Kbuild", "Kconfig", "MAINTAINERS"})
_MOST_FOLDERS: Final = 10_000


def has_own_tests(folder: Path) -> bool:
    """Whether there are tests in a folder or below it. The checkout of this project has its suite alone.

    Tests that Linux' own tree brings (``kunit_tool_test.py``) are nobody's tests of memory types.

    :param folder: The folder. Of a tree that is very large only the beginning is looked at.
    """
    if folder.is_relative_to(resources.testcases().parent):
        return False
    patterns = patterns_of_tests(folder)
    for number, (place, folders, files) in enumerate(os.walk(folder)):
        if number >= _MOST_FOLDERS:
            return False
        if _LINUX.issubset(files):
            folders.clear()
            continue
        if any(is_of_tests(Path(place, file), patterns) for file in files if file.endswith(".py")):
            return True
        folders[:] = [
            each
            for each in sorted(folders)
            if not any(fnmatch.fnmatch(each, name) for name in _ELSEWHERE)
            # A virtual environment, whatever its name.
            and not Path(place, each, "pyvenv.cfg").exists()
        ]
    return False
