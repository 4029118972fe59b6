"""File systems packed for guests, by programs out of Debian's packages: the host needs no such program."""

from __future__ import annotations

from pathlib import Path

from pytest_memtype.errors import KernelError
from pytest_memtype.host.progress import Progress
from pytest_memtype.host.resources import cache_directory
from pytest_memtype.host.store import build_dir, exclusive, require_space, staged
from pytest_memtype.kernels import sandbox
from pytest_memtype.kernels.fetch import digest
from pytest_memtype.kernels.mmdebstrap import unpack
from pytest_memtype.kernels.sources import sources_of

_SUITE = "bookworm"
_PACKAGES = ("base-files", "busybox-static", "coreutils", "dash", "kmod", "squashfs-tools")
_HOOK = """
cd "$1"
mkdir src
rm -rf usr/share/doc usr/share/info usr/share/locale usr/share/man var/cache/apt
"""
_NEEDED_BYTES = 256 << 20
_LIMIT_SECONDS = 600


def packing_kit(*, progress: Progress) -> Path:
    """A root folder with squashfs-tools, kmod and busybox, from the cache or Debian's packages.

    :param progress: Called with a line at the start of a download.
    :raises KernelError: a package can't be had.
    :raises HostError: the host lacks a program or space.
    """
    cache = cache_directory()
    kit = cache / "kits" / f"packing-{digest((_SUITE, *_PACKAGES, _HOOK))}"
    if not kit.is_dir():
        place = build_dir(cache, kit.name)
        with exclusive(place, progress):
            if not kit.is_dir():
                progress("downloading the tools that pack file systems")
                require_space(cache, _NEEDED_BYTES)
                what = "the tools that pack file systems"
                with staged(kit, cache=place) as target:
                    unpack(sources_of(_SUITE), target, packages=_PACKAGES, hook=_HOOK, what=what, cache=cache)
    return kit


def pack(kit: Path, script: str, *, work: Path, what: str) -> None:
    """Run shell lines with the packing tools, in ``work``, which is ``/src`` to them.

    :param kit: The root folder that :func:`packing_kit` returns.
    :param script: Lines for ``/bin/sh``; the first that fails ends them.
    :param work: The folder that the lines read and write.
    :param what: The file system, as the beginning of an error's message.
    :raises HostError: neither bubblewrap nor chroot can be used.
    :raises KernelError: the lines failed, or took too long.
    """
    done = sandbox.run(kit, source=work, script=f"set -eu\n{script}", limit=_LIMIT_SECONDS)
    if done.status != 0:
        raise KernelError(
            f"{what} can't be packed; the last lines of the tools follow",
            details=tuple(done.output.splitlines()[-10:]),
        )


def busybox(kit: Path) -> Path:
    """The static busybox in a packing kit."""
    # Debian 13 moved it from /bin, and a link leads from there where /bin isn't /usr/bin itself.
    return next(path for path in (kit / "usr/bin/busybox", kit / "bin/busybox") if path.exists())
