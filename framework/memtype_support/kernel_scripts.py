"""Programs out of the kernel's own sources, for checks and tests: checkpatch.pl, and the parser of KTAP.

Debian has them in its package of the kernel's sources, 140 MB, of which the cache keeps a few files.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from pytest_memtype.errors import MemtypeError
from pytest_memtype.host.cached_folders import LINT_TOOLS
from pytest_memtype.host.progress import Progress, silent
from pytest_memtype.host.resources import cache_directory
from pytest_memtype.host.store import made_once, seal, staged, temp_dir
from pytest_memtype.kernels.mmdebstrap import require_network
from pytest_memtype.kernels.source_package import recipe, unpack_sources

CHECKPATCH = "checkpatch.pl"
KUNIT_PARSER = "kunit_parser.py"

# checkpatch.pl reads the other two from its own folder, and the parser imports the printer.
_MEMBERS = (
    *(f"scripts/{name}" for name in (CHECKPATCH, "spelling.txt", "const_structs.checkpatch")),
    *(f"tools/testing/kunit/{name}" for name in (KUNIT_PARSER, "kunit_printer.py")),
)
# A stable suite: another version of a script, which says other things, comes with a change of this line.
_SUITE, _PACKAGE = "bookworm", "linux-source-6.1"
_WHAT = "the kernel's sources"


class LeftOutError(Exception):
    """A script can't be had or run here; the message says why."""


def kernel_scripts(*, progress: Progress = silent) -> Path:
    """The folder of all of them, from the cache or out of Debian's package, verified by apt.

    :raises LeftOutError: they can't be had.
    """
    try:
        cache = cache_directory()
    except MemtypeError as error:
        raise LeftOutError(str(error)) from error
    digest = hashlib.sha256(recipe(_SUITE, _PACKAGE, _MEMBERS).encode()).hexdigest()
    folder = cache / LINT_TOOLS / f"kernel-{digest[:16]}"

    def make(place: Path) -> None:
        require_network(_WHAT, cache=cache)
        progress("downloading scripts of the kernel's, in 140 MB of sources, for once")
        with temp_dir(place) as work, staged(folder, cache=place) as target:
            sources = unpack_sources(
                work / "root", _MEMBERS, suite=_SUITE, package=_PACKAGE, what=_WHAT, cache=cache
            )
            target.mkdir()
            for member in _MEMBERS:
                shutil.copy(sources / member, target)
            seal(target)

    try:
        made_once(folder, make, cache=cache, work=folder.name, progress=progress)
    except MemtypeError as error:
        raise LeftOutError(str(error)) from error
    return folder
