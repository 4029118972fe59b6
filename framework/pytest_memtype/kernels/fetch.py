"""Kits: all it takes to build a guest for a kernel, and the kernel, unpacked from Debian's packages."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from pytest_memtype.host.files import read_small
from pytest_memtype.host.store import require_space, staged
from pytest_memtype.kernels.index import Kernel
from pytest_memtype.kernels.mmdebstrap import unpack
from pytest_memtype.kernels.sources import sources_of

_PACKAGES = (
    "base-files",
    "binutils",
    "busybox-static",
    "coreutils",
    "dash",
    "findutils",
    "grep",
    "libc6-dev",
    "make",
    "mawk",
    "perl-base",
    "sed",
)
# The image is taken without what it depends on (kmod, initramfs-tools, a boot loader), and only it and its
# configuration are kept. 6.19 moved both out of /boot.
_IMAGE_HOOK = """
mkdir "$1/image"
cd "$1/image"
apt-get download -qq "{image}={version}"
dpkg-deb -x ./*.deb .
for name in vmlinuz config; do
    for file in "boot/$name-{release}" "usr/lib/modules/{release}/$name"; do
        [ ! -e "$file" ] || mv "$file" "$1/memtype/$name"
    done
done
headers="$1/usr/src/linux-headers-{release}"
[ ! -e "$headers/.config" ] || cp "$headers/.config" "$1/memtype/config"
cd "$1"
rm -rf image
"""
# mawk becomes awk by its maintainer script, which doesn't run here.
_HOOK = """
mkdir "$1/memtype" "$1/src"
{image}
cd "$1"
rm -rf usr/share/doc usr/share/info usr/share/locale usr/share/man var/cache/apt
[ -e usr/bin/awk ] || ln -s mawk usr/bin/awk
"""
_NEEDED_BYTES = 1 << 30
KERNEL: Final = "kernel.json"
"""The file that says which kernel a kit or a bundle is of."""
KERNEL_BYTES: Final = 64 << 10
"""The most bytes that such a file may have; 200 are usual."""

_TOOLS_SUITE = "bookworm"
"""The suite of the tools that build the agent for a kernel which isn't Debian's."""


def image(kit: Path) -> Path:
    """The bootable image (bzImage) in a kit."""
    return kit / "memtype" / "vmlinuz"


def config(kit: Path) -> Path | None:
    """The kernel's configuration in a kit; from 6.19 on it comes with the headers only."""
    path = kit / "memtype" / "config"
    return path if path.exists() else None


def kernel_of(folder: Path) -> Kernel | None:
    """The kernel of a kit or a bundle; None when it has none, or another version of this package made it."""
    for path in (folder / "memtype" / KERNEL, folder / KERNEL):
        try:
            return msgspec.json.decode(read_small(path, most=KERNEL_BYTES), type=Kernel)
        except (OSError, ValueError, RecursionError):
            continue
    return None


def note_kernel(kernel: Kernel, folder: Path) -> None:
    """Write into a folder which kernel it is of, for :func:`kernel_of`."""
    (folder / KERNEL).write_bytes(msgspec.json.encode(kernel))


def kits(cache: Path) -> list[Path]:
    """The folders of the kits in the cache, sorted by name."""
    folder = cache / "kits"
    return sorted(folder.iterdir()) if folder.is_dir() else []


def kit_path(kernel: Kernel, *, cache: Path) -> Path:
    """The folder that the kit of a kernel has, or would have; it is complete if it is there."""
    parts = (kernel.release, kernel.version, kernel.suite, kernel.image, *_packages(kernel), _hook(kernel))
    return cache / "kits" / f"{kernel.release}-{digest(parts)}"


def tools_path(*, cache: Path) -> Path:
    """The folder that the kit without a kernel has, or would have."""
    return cache / "kits" / f"tools-{digest((_TOOLS_SUITE, *_tools(), _HOOK))}"


def fetch(kernel: Kernel, *, cache: Path, place: Path) -> Path:
    """Download and unpack the kit of a kernel. The caller holds the lock of ``place``.

    :param kernel: The kernel to get, with its compiler and headers.
    :param cache: The cache folder.
    :param place: The build folder of the kit, see :func:`pytest_memtype.host.store.build_dir`.
    :raises KernelError: the mirror or a package failed.
    :raises HostError: the disk is full.
    :returns: the kit, a root folder to build in.
    """
    final = kit_path(kernel, cache=cache)
    with staged(final, cache=place) as kit:
        _unpack(kernel.suite, kit, _packages(kernel), _hook(kernel), f"kernel {kernel.release}", cache=cache)
        note_kernel(kernel, kit / "memtype")
    return final


def fetch_tools(*, cache: Path, place: Path) -> Path:
    """Download and unpack a kit without a kernel. The caller holds the lock of ``place``.

    :param cache: The cache folder.
    :param place: The build folder of the kit, see :func:`pytest_memtype.host.store.build_dir`.
    :raises KernelError: the mirror or a package failed.
    :raises HostError: the disk is full.
    """
    final = tools_path(cache=cache)
    with staged(final, cache=place) as kit:
        _unpack(_TOOLS_SUITE, kit, _tools(), _HOOK.format(image=""), "the tools for the guest", cache=cache)
    return final


def _unpack(suite: str, kit: Path, packages: tuple[str, ...], hook: str, what: str, *, cache: Path) -> None:
    require_space(cache, _NEEDED_BYTES)
    unpack(sources_of(suite), kit, packages=packages, hook=hook, what=what, cache=cache)


def _tools() -> tuple[str, ...]:
    return (*_PACKAGES, "gcc")


def _packages(kernel: Kernel) -> tuple[str, ...]:
    if kernel.headers:
        # They bring the compiler the kernel was built with.
        return (*_PACKAGES, f"linux-headers-{kernel.release}={kernel.version}")
    return _tools()


def _hook(kernel: Kernel) -> str:
    hook = _IMAGE_HOOK.format(image=kernel.image, version=kernel.version, release=kernel.release)
    return _HOOK.format(image=hook)


def digest(parts: Iterable[str]) -> str:
    """A short hash of the recipe of a thing in the cache, which is a part of its name.

    :param parts: Texts: with another of any of them it is another thing.
    """
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
