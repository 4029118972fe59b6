"""The kit of a kernel: its image, and all it takes to build a module for it, unpacked."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pytest_memtype.kernels.index import Kernel
from pytest_memtype.kernels.mmdebstrap import unpack
from pytest_memtype.kernels.sources import sources_of
from pytest_memtype.store import require_space, under_construction

# linux-headers-X brings the compiler the kernel was built with.
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
# The image is taken without what it depends on (kmod, initramfs-tools, a boot loader), and only its image
# is kept. mawk becomes awk by its maintainer script, which doesn't run here.
_HOOK = """
mkdir "$1/memtype" "$1/image" "$1/src"
cd "$1/image"
apt-get download -qq "{image}={version}"
dpkg-deb -x ./*.deb .
mv {path} "$1/memtype/image"
cp "$1/usr/src/linux-headers-{release}/.config" "$1/memtype/config"
cd "$1"
rm -rf image usr/share/doc usr/share/info usr/share/locale usr/share/man var/cache/apt
[ -e usr/bin/awk ] || ln -s mawk usr/bin/awk
"""
_NEEDED_BYTES = 1 << 30


def image(kit: Path) -> Path:
    """The bootable image (bzImage) in a kit."""
    return kit / "memtype" / "image"


def config(kit: Path) -> Path:
    """The kernel's configuration in a kit."""
    return kit / "memtype" / "config"


def kit_path(kernel: Kernel, *, cache: Path) -> Path:
    """Where the kit of a kernel is, or would be; it is complete if it is there."""
    recipe = "\n".join((kernel.release, kernel.version, kernel.suite, kernel.image, *_PACKAGES, _HOOK))
    return cache / "kits" / f"{kernel.release}-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"


def fetch(kernel: Kernel, *, cache: Path) -> Path:
    """Download and unpack the kit of a kernel. The caller holds the cache's lock.

    :return: The kit, a root folder to build in.
    :raises KernelError: the mirror, a package or the disk failed.
    """
    final = kit_path(kernel, cache=cache)
    require_space(cache, _NEEDED_BYTES)
    binary = kernel.image.startswith("linux-binary-")
    hook = _HOOK.format(
        image=kernel.image,
        version=kernel.version,
        release=kernel.release,
        # 6.19 moved the image out of /boot.
        path=f"usr/lib/modules/{kernel.release}/vmlinuz" if binary else f"boot/vmlinuz-{kernel.release}",
    )
    with under_construction(final, cache=cache) as kit:
        unpack(
            sources_of(kernel.suite),
            kit,
            packages=(*_PACKAGES, f"linux-headers-{kernel.release}={kernel.version}"),
            hook=hook,
            what=f"kernel {kernel.release}",
            cache=cache,
        )
    return final
