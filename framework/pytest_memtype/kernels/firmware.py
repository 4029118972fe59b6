"""OVMF, the UEFI firmware for QEMU, unpacked from Debian's package. SeaBIOS comes with QEMU itself."""

from __future__ import annotations

import shutil
from pathlib import Path

from pytest_memtype.host.progress import Progress, silent
from pytest_memtype.host.resources import cache_directory
from pytest_memtype.host.store import made_once, require_space, seal, staged, temp_dir
from pytest_memtype.kernels.fetch import digest
from pytest_memtype.kernels.mmdebstrap import unpack
from pytest_memtype.kernels.sources import sources_of
from pytest_memtype.kernels.stage import Stage, Step

FOLDER = "firmware"
"""The folder of firmware in the cache."""

_SUITE = "bookworm"

# Flash of 4 MiB: newer suites have no other. Not the build for Secure Boot, which needs SMM.
FILES = ("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd")
"""The names of the files of a firmware, code first."""

_HOOK = """
mkdir "$1/package"
cd "$1/package"
apt-get download -qq ovmf
dpkg-deb -x ./*.deb .
"""
_NEEDED_BYTES = 256 << 20


def flash(firmware: str, *, progress: Progress = silent) -> tuple[Path, ...]:
    """The contents of the flash chips that a firmware comes in, from the cache or Debian's package.

    Code first, then variables. Guests read both and write neither.

    :param firmware: See :class:`pytest_memtype.machine.hardware.Hardware`.
    :param progress: Called with a line before a download.
    :raises KernelError: the package can't be had.
    :raises HostError: the host lacks a program or space.
    :returns: the files; none for ``seabios``.
    """
    if firmware == "seabios":
        return ()
    cache = cache_directory()
    folder = _folder(firmware, cache=cache)

    def make(place: Path) -> None:
        progress(Step(Stage.DOWNLOADING, f"the firmware {firmware}"))
        _make(folder, cache=cache, place=place)

    made_once(folder, make, cache=cache, work=folder.name, progress=progress)
    return tuple(folder / name for name in FILES)


def kept(cache: Path) -> list[Path]:
    """The folders of the firmware that is in the cache."""
    return [folder for folder in (_folder("ovmf", cache=cache),) if folder.is_dir()]


def _folder(firmware: str, *, cache: Path) -> Path:
    return cache / FOLDER / f"{firmware}-{digest((_SUITE, _HOOK, *FILES))}"


def _make(folder: Path, *, cache: Path, place: Path) -> None:
    require_space(cache, _NEEDED_BYTES)
    with temp_dir(place) as work, staged(folder, cache=place) as target:
        unpack(sources_of(_SUITE), work / "root", hook=_HOOK, what="the firmware OVMF", cache=cache)
        target.mkdir()
        for name in FILES:
            shutil.copyfile(work / "root" / "package" / "usr" / "share" / "OVMF" / name, target / name)
        seal(target)
