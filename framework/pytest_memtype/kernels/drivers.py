"""Drivers of a kernel that map device memory, as an initramfs to be loaded behind a guest's own.

Ordinary guests have none, so that nothing but a test maps anything; observation wants them at work.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import re
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from pytest_memtype.errors import KernelError
from pytest_memtype.kernels import initramfs
from pytest_memtype.kernels.bundle import Bundle
from pytest_memtype.kernels.fetch import kernel_of
from pytest_memtype.kernels.index import Kernel
from pytest_memtype.kernels.mmdebstrap import unpack
from pytest_memtype.kernels.sources import sources_of
from pytest_memtype.progress import Progress, silent
from pytest_memtype.resources import cache_directory
from pytest_memtype.store import exclusive, flush, require_space, scratch, under_construction, workshop

WANTED = (
    "ahci",
    "bochs",
    "e1000e",
    "nvme",
    "pvpanic_pci",
    "virtio_balloon",
    "virtio_net",
    "virtio_pci",
    "vmw_pvscsi",
    "vmxnet3",
)
"""Drivers of devices that QEMU has. Debian's cloud kernels have neither e1000e nor any of DRM's."""

FOLDER = "drivers"
"""Where the guest has them."""

_HOOK = """
mkdir "$1/package"
cd "$1/package"
apt-get download -qq {packages}
for package in ./*.deb; do dpkg-deb -x "$package" .; done
"""
_NEEDED_BYTES = 1 << 30
# MODULE_INFO() of the kernel: strings "name=value" that end with NUL, in the section .modinfo.
_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")


@dataclass(frozen=True)
class Drivers:
    """The drivers of one kernel.

    :param archive: A cpio archive with ``/drivers/NAME.ko`` for each of ``order``.
    :param order: Names of modules, each behind those it depends on.
    :param built_in: Those of :data:`WANTED` that are part of the kernel itself.
    :param missing: Those that this kernel doesn't have.
    """

    archive: Path
    order: tuple[str, ...]
    built_in: tuple[str, ...]
    missing: tuple[str, ...]


def drivers(bundle: Bundle, *, progress: Progress = silent) -> Drivers | None:
    """The drivers of a bundle's kernel, from the cache or Debian's package.

    :return: None for a kernel that isn't Debian's: nobody says where its modules are.
    :raises KernelError: the package can't be had, or makes no sense.
    :raises HostError: the host lacks a program or space.
    """
    if bundle.version == "local":
        return None
    kernel = kernel_of(bundle.kit)
    if kernel is None:
        raise KernelError(
            f"{bundle.kit}: the kit of {bundle.release} is gone; remove that kernel (memtype kernels "
            "remove) and fetch it again"
        )
    cache = cache_directory()
    recipe = "\n".join((kernel.suite, module_packages(kernel), _HOOK, *WANTED))
    name = f"{kernel.release}-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"
    folder = cache / FOLDER / name
    if not folder.is_dir():
        place = workshop(cache, f"drivers-{name}")
        with exclusive(place, progress):
            if not folder.is_dir():
                progress(f"downloading the drivers of {kernel.release}")
                _make(kernel, folder, cache=cache, place=place)
    facts = json.loads((folder / "drivers.json").read_bytes())
    return Drivers(folder / "drivers.cpio", **{key: tuple(names) for key, names in facts.items()})


def module_packages(kernel: Kernel) -> str:
    """Names and versions of the packages with the modules and the list of what is built in."""
    # 6.19 split the package of before: linux-base-X lists what is built in, linux-modules-X has the modules.
    split = kernel.image.startswith("linux-binary-")
    parts = ("linux-base", "linux-modules")
    names = [f"{part}-{kernel.release}" for part in parts] if split else [kernel.image]
    return " ".join(f'"{name}={kernel.version}"' for name in names)


def load_order(wanted: Iterable[str], read: Callable[[str], bytes | None]) -> dict[str, bytes]:
    """Modules and all that they depend on, each behind what it depends on.

    :param read: Gives a module's contents by its name; None when there is no such module. What is built
        into the kernel is none.
    :return: Contents by name, in the order of loading.
    """
    found: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name in found or (content := read(name)) is None:
            return
        for dependency in dependencies(content):
            add(dependency)
        found[name] = content

    for name in wanted:
        add(name)
    return found


def dependencies(module: bytes) -> list[str]:
    """The names of the modules that a module wants loaded first.

    depmod's modules.dep, which has them too, is written when the package is installed.
    """
    match = _DEPENDS.search(module)
    return [module_name(name) for name in match[1].decode().split(",") if name] if match else []


def _make(kernel: Kernel, folder: Path, *, cache: Path, place: Path) -> None:
    what = f"the drivers of {kernel.release}"
    require_space(cache, _NEEDED_BYTES)
    with scratch(place) as work, under_construction(folder, cache=place) as target:
        hook = _HOOK.format(packages=module_packages(kernel))
        unpack(sources_of(kernel.suite), work / "root", hook=hook, what=what, cache=cache)
        # In /lib, or from 6.19 on in /usr/lib.
        listed = f"**/lib/modules/{kernel.release}/modules.builtin"
        builtin = next((work / "root" / "package").glob(listed), None)
        if builtin is None:
            raise KernelError(f"{what}: {module_packages(kernel)} don't list what is built in")
        modules = builtin.parent
        files = {module_name(path.name.partition(".ko")[0]): path for path in modules.rglob("*.ko*")}
        found = load_order(WANTED, lambda name: module_contents(files[name]) if name in files else None)
        built_in = {module_name(Path(line).stem) for line in builtin.read_text().splitlines()}
        target.mkdir()
        entries = [initramfs.Entry(FOLDER, stat.S_IFDIR | 0o755)]
        entries += (
            initramfs.Entry(f"{FOLDER}/{name}.ko", stat.S_IFREG | 0o644, content)
            for name, content in found.items()
        )
        initramfs.write(target / "drivers.cpio", entries)
        facts = {
            "order": list(found),
            "built_in": [name for name in WANTED if name in built_in],
            "missing": [name for name in WANTED if name not in found and name not in built_in],
        }
        (target / "drivers.json").write_text(json.dumps(facts))
        flush(target)


def module_contents(path: Path) -> bytes:
    """A module as the kernel loads it. Debian 13 compresses its modules with xz."""
    match path.suffix:
        case ".ko":
            return path.read_bytes()
        case ".xz":
            return lzma.decompress(path.read_bytes())
        case other:
            raise KernelError(f"{path.name}: modules compressed as {other} can't be read")


def module_name(name: str) -> str:
    # A module's file may have "-" where its name has "_".
    return name.replace("-", "_")
