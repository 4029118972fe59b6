"""Drivers of a kernel that map device memory, as an initramfs to be loaded behind a guest's own.

Ordinary guests have none, so that nothing but a test maps anything; observation wants them at work.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pytest_memtype.host.progress import Progress, silent
from pytest_memtype.host.resources import cache_directory
from pytest_memtype.host.store import made_once, require_space, seal, staged, temp_dir
from pytest_memtype.kernels import initramfs
from pytest_memtype.kernels.bundle import Bundle
from pytest_memtype.kernels.fetch import digest
from pytest_memtype.kernels.index import Kernel
from pytest_memtype.kernels.module_tree import HOOK, module_packages, packaged, unpacked
from pytest_memtype.kernels.stage import Stage, Step

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
"""The folder of the drivers: in the guest, and in the cache."""

_NEEDED_BYTES = 1 << 30


@dataclass(frozen=True)
class Drivers:
    """The drivers of a kernel, as an archive for its guests.

    :param archive: A cpio archive with ``/drivers/NAME.ko`` for each of ``order``.
    :param order: Names of modules, each behind the modules that it depends on.
    :param built_in: Names of :data:`WANTED` that are part of the kernel itself.
    :param missing: Names of :data:`WANTED` that this kernel doesn't have.
    """

    archive: Path
    order: tuple[str, ...]
    built_in: tuple[str, ...]
    missing: tuple[str, ...]


def drivers(bundle: Bundle, *, progress: Progress = silent) -> Drivers | None:
    """The drivers of a bundle's kernel, from the cache or Debian's package.

    :param bundle: The bundle that a guest boots.
    :param progress: Called with a line before a download.
    :raises KernelError: the package can't be had, or makes no sense.
    :raises HostError: the host lacks a program or space.
    :returns: the drivers; None for a kernel that isn't Debian's, whose modules can't be found.
    """
    if not bundle.is_debians:
        return None
    kernel = packaged(bundle)
    cache = cache_directory()
    name = f"{kernel.release}-{digest((kernel.suite, module_packages(kernel), HOOK, *WANTED))}"
    folder = cache / FOLDER / name

    def make(place: Path) -> None:
        progress(Step(Stage.DOWNLOADING, f"the drivers of {kernel.release}"))
        _make(kernel, folder, cache=cache, place=place)

    made_once(folder, make, cache=cache, work=f"drivers-{name}", progress=progress)
    facts = json.loads((folder / "drivers.json").read_bytes())
    return Drivers(folder / "drivers.cpio", **{key: tuple(names) for key, names in facts.items()})


def _make(kernel: Kernel, folder: Path, *, cache: Path, place: Path) -> None:
    what = f"the drivers of {kernel.release}"
    require_space(cache, _NEEDED_BYTES)
    with temp_dir(place) as work, staged(folder, cache=place) as target:
        tree = unpacked(kernel, work / "root", what=what, cache=cache)
        found = tree.load_order(WANTED)
        target.mkdir()
        files = {f"{name}.ko": content for name, content in found.items()}
        initramfs.write_folder(target / "drivers.cpio", FOLDER, files, mode=0o644)
        facts = {
            "order": list(found),
            "built_in": [name for name in WANTED if name in tree.built_in],
            "missing": [name for name in WANTED if name not in found and name not in tree.built_in],
        }
        (target / "drivers.json").write_text(json.dumps(facts))
        seal(target)
