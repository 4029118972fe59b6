"""The modules of a Debian kernel as a file system, and the initramfs that mounts it and the image."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from pytest_memtype.distribution.image import recipe
from pytest_memtype.distribution.packing import busybox, pack, packing_kit
from pytest_memtype.errors import UsageError
from pytest_memtype.host import resources
from pytest_memtype.host.progress import Progress
from pytest_memtype.host.store import made_once, require_space, seal, staged, temp_dir
from pytest_memtype.kernels import initramfs
from pytest_memtype.kernels.bundle import Bundle
from pytest_memtype.kernels.fetch import digest
from pytest_memtype.kernels.index import Kernel
from pytest_memtype.kernels.module_tree import HOOK, module_packages, packaged, unpacked

FOLDER = "modules"
"""The folder of modules in the cache."""

_NEEDED_BYTES = 2 << 30
# The modules that lead to the image's file system and the one above it.
_TO_BOOT = ("virtio_pci", "virtio_blk", "squashfs", "overlay")
_PACK = """
depmod -b /src/tree {release}
mksquashfs tree/lib/modules/{release} modules.sqfs -quiet -no-progress -comp lz4 -all-root
"""


def modules(bundle: Bundle, *, progress: Progress) -> tuple[Path, Path]:
    """The modules of a bundle's kernel, and an initramfs for them, from the cache or Debian's packages.

    :param bundle: The bundle of one of Debian's kernels.
    :param progress: Called with a line at the start of each slow stage.
    :raises UsageError: the kernel isn't Debian's.
    :raises KernelError: a package can't be had.
    :raises HostError: the host lacks a program or space.
    :returns: a squashfs file for ``/usr/lib/modules/RELEASE``, and a cpio archive.
    """
    if not bundle.is_debians:
        raise UsageError(
            f"kernel {bundle.spec!r}: a distribution guest wants one of Debian's kernels, whose modules are "
            "in its packages"
        )
    kernel = packaged(bundle)
    cache = resources.cache_directory()
    init = (recipe() / "init").read_bytes()
    parts = (kernel.suite, module_packages(kernel), HOOK, _PACK, *_TO_BOOT, init.decode())
    name = f"{kernel.release}-{digest(parts)}"
    folder = cache / FOLDER / name

    def make(place: Path) -> None:
        kit = packing_kit(progress=progress)
        progress(f"downloading the modules of {kernel.release}")
        _make(kernel, folder, init=init, kit=kit, cache=cache, place=place)

    made_once(folder, make, cache=cache, work=f"modules-{name}", progress=progress)
    return folder / "modules.sqfs", folder / "initramfs.cpio"


def _make(kernel: Kernel, folder: Path, *, init: bytes, kit: Path, cache: Path, place: Path) -> None:
    what = f"the modules of {kernel.release}"
    require_space(cache, _NEEDED_BYTES)
    with temp_dir(place) as work, staged(folder, cache=place) as target:
        own = unpacked(kernel, work / "root", what=what, cache=cache)
        found = own.load_order(_TO_BOOT)
        tree = work / "src" / "tree" / "lib" / "modules"
        tree.mkdir(parents=True)
        target.mkdir()
        initramfs.write(target / "initramfs.cpio", _initramfs(found, init=init, busybox=busybox(kit)))
        own.folder.rename(tree / kernel.release)
        pack(kit, _PACK.format(release=kernel.release), work=work / "src", what=what)
        (work / "src" / "modules.sqfs").rename(target / "modules.sqfs")
        seal(target)


def _initramfs(found: dict[str, bytes], *, init: bytes, busybox: Path) -> Iterator[initramfs.Entry]:
    for name in ("bin", "dev", "proc", "image", "changes", "root", "modules"):
        yield initramfs.Entry(name, stat.S_IFDIR | 0o755)
    # init has its output on the console before it mounts devtmpfs.
    yield initramfs.Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    yield initramfs.Entry("init", stat.S_IFREG | 0o755, init)
    yield initramfs.Entry("bin/busybox", stat.S_IFREG | 0o755, busybox.read_bytes())
    for name, content in found.items():
        yield initramfs.Entry(f"modules/{name}.ko", stat.S_IFREG | 0o644, content)
    yield initramfs.Entry(
        "modules/order", stat.S_IFREG | 0o644, "".join(f"{name}\n" for name in found).encode()
    )
