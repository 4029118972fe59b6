"""Files out of Debian's package of a kernel's sources: 140 MB, of which all but the files goes by."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pytest_memtype.errors import HostError
from pytest_memtype.host.store import require_space
from pytest_memtype.kernels.mmdebstrap import unpack
from pytest_memtype.kernels.sources import sources_of

VERSION: Final = "version"
"""The file beside the sources that has the package's name and version."""

_NEEDED_BYTES = 512 << 20

# The archive in the package has 1.3 GB and more when unpacked. Patterns begin at its top folder.
_HOOK = """
package={package}
[ -n "$package" ] ||
    package=$(apt-cache pkgnames linux-source- | grep -x 'linux-source-[0-9.]*' | sort -V | tail -n 1)
mkdir "$1/package" "$1/linux"
cd "$1/package"
apt-get download -qq "$package"
echo "$package $(dpkg-deb -f ./*.deb Version)" > "$1/{version}"
dpkg-deb --fsys-tarfile ./*.deb | tar -x --to-stdout --wildcards '*/linux-source-*.tar.xz' |
    tar -xJ -C ../linux --strip-components=1 --no-wildcards-match-slash --wildcards {members}
rm -rf "$1/package"
"""


def recipe(suite: str, package: str, members: Sequence[str]) -> str:
    """A text, to be hashed, that is another when :func:`unpack_sources` would give other files.

    :param suite: The Debian suite that has the package.
    :param package: The package; empty for the newest.
    :param members: Files and folders, as paths from the sources' top folder.
    """
    return "\n".join((suite, package, _HOOK, *members))


def unpack_sources(
    root: Path, members: Sequence[str], *, suite: str, package: str = "", what: str, cache: Path
) -> Path:
    """Unpack files of a package of sources, verified by apt; gives their top folder, ``root/linux``.

    :param root: A folder that the call makes; a failure may leave it half full. :data:`VERSION` is in it.
    :param members: Files and folders, as paths from the sources' top folder.
    :param suite: The Debian suite that has the package.
    :param package: The package, such as ``linux-source-6.1``; empty for the newest, which the metapackage of
        a suite of backports doesn't name.
    :param what: The thing to fetch, as the beginning of an error's message.
    :param cache: The cache folder.
    :raises Unreachable: the mirror sent nothing, or may not be asked.
    :raises KernelError: the mirror or the package failed.
    :raises HostError: mmdebstrap or xz isn't installed, or the disk is full.
    """
    if shutil.which("xz") is None:
        # A machine with apt alone has none: dpkg unpacks by itself.
        raise HostError("xz: not installed; install the package xz-utils")
    require_space(cache, _NEEDED_BYTES)
    patterns = " ".join(shlex.quote(f"linux-source-*/{member}") for member in members)
    hook = _HOOK.format(package=package, version=VERSION, members=patterns)
    unpack(sources_of(suite), root, hook=hook, what=what, cache=cache)
    return root / "linux"
