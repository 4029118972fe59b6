"""From a kernel spec to all that a guest of that kernel boots from."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from pytest_memtype import resources
from pytest_memtype.kernels.build import build, source_files
from pytest_memtype.kernels.fetch import config, fetch, image, kit_path
from pytest_memtype.kernels.index import Kernel, find, find_refreshing
from pytest_memtype.kernels.spec import SUITES, DebianSpec, parse
from pytest_memtype.progress import Progress, silent
from pytest_memtype.store import exclusive, flush, scratch, under_construction

# Part of every bundle's key: raise it when the code of this room makes other files from the same sources.
_RECIPE = "1"


@dataclass(frozen=True)
class Bundle:
    """A kernel ready to boot. Its files never change; another build gets another folder.

    :param spec: As the user wrote it, "debian:bookworm".
    :param release: As ``uname -r`` prints it, "6.1.0-56-cloud-amd64".
    :param version: Version of the Debian package, "6.1.192-2".
    :param image: bzImage, for QEMU's ``-kernel``.
    :param module: ``memtype.ko`` with debug information. The initramfs has it as ``/memtype.ko``, without.
    :param initramfs: For QEMU's ``-initrd``.
    :param config: The kernel's configuration.
    :param key: Hash of everything the bundle is made from.
    :param directory: The folder of all these files.
    """

    spec: str
    release: str
    version: str
    image: Path
    module: Path
    initramfs: Path
    config: Path
    key: str
    directory: Path


def bundle(spec: str, *, progress: Progress = silent, sources: Path | None = None) -> Bundle:
    """The bundle of a kernel: found in the cache, or downloaded and built.

    Runs that want one at the same time prepare it once.

    :param progress: Called at the start of each slow stage.
    :param sources: The guest's sources, where they are not the package's own ``guests/``.
    :raises UsageError: the spec can't be used.
    :raises KernelError: the kernel can't be found, fetched or built.
    :raises HostError: the host lacks a program, or a cache folder that can be written to.
    """
    wanted = parse(spec)
    guests = resources.guest_sources() if sources is None else sources
    cache = resources.cache_directory()
    fingerprint = source_hash(guests)

    kernel = _kernel(wanted, cache=cache, progress=progress)
    key = _key(kernel, fingerprint, cache=cache)
    directory = cache / "bundles" / f"{kernel.release}-{key[:16]}"
    if not directory.is_dir():
        with exclusive(cache, progress):
            # Another run may have made it while this one waited.
            if not directory.is_dir():
                _make(kernel, guests, directory, cache=cache, progress=progress)
    return _opened(wanted, kernel, key, directory)


def resolve(spec: str, *, progress: Progress = silent) -> str:
    """The release of the kernel that a spec stands for at present; nothing of it is fetched.

    :raises UsageError: the spec can't be used.
    :raises KernelError: the kernel can't be found.
    """
    return _kernel(parse(spec), cache=resources.cache_directory(), progress=progress).release


def _kernel(wanted: DebianSpec, *, cache: Path, progress: Progress) -> Kernel:
    suites = SUITES if wanted.suite is None else (wanted.suite,)
    kernel = find(wanted, suites=suites, cache=cache)
    if kernel is None:
        with exclusive(cache, progress):
            kernel = find_refreshing(wanted, suites=suites, cache=cache, progress=progress)
    return kernel


def source_hash(sources: Path) -> str:
    """Hash of the names and contents of all the guest's sources."""
    digest = hashlib.sha256()
    for path in source_files(sources):
        data = path.read_bytes()
        digest.update(f"{path.relative_to(sources)}\0{len(data)}\0".encode())
        digest.update(data)
    return digest.hexdigest()


def _key(kernel: Kernel, fingerprint: str, *, cache: Path) -> str:
    parts = (_RECIPE, kit_path(kernel, cache=cache).name, fingerprint)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _make(kernel: Kernel, guests: Path, directory: Path, *, cache: Path, progress: Progress) -> None:
    kit = kit_path(kernel, cache=cache)
    if not kit.is_dir():
        progress(f"downloading kernel {kernel.release} and its compiler")
        fetch(kernel, cache=cache)
    progress(f"building the guest for {kernel.release}")
    with scratch(cache) as work, under_construction(directory, cache=cache) as target:
        target.mkdir()
        build(kit, release=kernel.release, sources=guests, work=work, target=target)
        shutil.copyfile(image(kit), target / "image")
        shutil.copyfile(config(kit), target / "config")
        flush(target)


def _opened(spec: DebianSpec, kernel: Kernel, key: str, directory: Path) -> Bundle:
    return Bundle(
        spec=spec.text,
        release=kernel.release,
        version=kernel.version,
        image=directory / "image",
        module=directory / "memtype.ko",
        initramfs=directory / "initramfs.cpio",
        config=directory / "config",
        key=key,
        directory=directory,
    )
