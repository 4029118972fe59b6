"""From a kernel spec to all that a guest of that kernel boots from."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from pytest_memtype import resources
from pytest_memtype.errors import KernelError
from pytest_memtype.kernels import requirements
from pytest_memtype.kernels.build import (
    AGENT,
    LAUNCHER,
    STRIPPED_MODULE,
    build,
    build_module_on_host,
    copy_sources,
    source_files,
)
from pytest_memtype.kernels.fetch import (
    config,
    fetch,
    fetch_tools,
    image,
    kernel_of,
    kit_path,
    kits,
    tools_path,
)
from pytest_memtype.kernels.index import Kernel, find
from pytest_memtype.kernels.local import LocalKernel, find_local
from pytest_memtype.kernels.spec import DebianSpec, Spec, parse
from pytest_memtype.progress import Progress, silent
from pytest_memtype.store import exclusive, flush, scratch, under_construction, workshop

# Part of every bundle's key: raise it when the code of this room makes other files from the same sources.
_RECIPE = "4"


@dataclass(frozen=True)
class Bundle:
    """A kernel ready to boot. Its files never change; another build gets another folder.

    :param spec: As the user wrote it, "debian:bookworm".
    :param release: As ``uname -r`` prints it, "6.1.0-56-cloud-amd64".
    :param version: Version of the Debian package, "6.1.192-2"; "local" for a kernel built on this host.
    :param image: bzImage, for QEMU's ``-kernel``.
    :param module: ``memtype.ko`` with debug information, None where none can be built because the mirror
        has dropped the kernel's headers. The initramfs has it as ``/memtype.ko``, without.
    :param stripped_module: The same without debug information, ten times smaller.
    :param agent: The agent, a static program.
    :param initramfs: For QEMU's ``-initrd``.
    :param launcher: A library for :mod:`pytest_memtype.machine.launcher`.
    :param config: The kernel's configuration, None where nothing has it any more.
    :param key: Hash of everything the bundle is made from.
    :param directory: The folder of all these files.
    :param kit: The root folder it was built in, with the compiler; gone when somebody removed it.
    """

    spec: str
    release: str
    version: str
    image: Path
    module: Path | None
    stripped_module: Path | None
    agent: Path
    initramfs: Path
    launcher: Path
    config: Path | None
    key: str
    directory: Path
    kit: Path


def bundle(spec: str, *, progress: Progress = silent, sources: Path | None = None) -> Bundle:
    """The bundle of a kernel: found in the cache, or downloaded and built.

    Runs that want one at the same time prepare it once.

    :param progress: Called at the start of each slow stage: "waiting ...", "downloading ...", "building ...".
    :param sources: The guest's sources, where they are not the package's own ``guests/``.
    :raises UsageError: the spec can't be used.
    :raises KernelError: the kernel can't be found, fetched or built.
    :raises HostError: the host lacks a program, or a cache folder that can be written to.
    """
    wanted = parse(spec)
    guests = resources.guest_sources() if sources is None else sources
    cache = resources.cache_directory()
    kernel = _find(wanted, cache=cache, progress=progress)
    kit = tools_path(cache=cache) if isinstance(kernel, LocalKernel) else kit_path(kernel, cache=cache)
    identity = kernel.identity if isinstance(kernel, LocalKernel) else ""
    key = hashlib.sha256("\n".join((_RECIPE, kit.name, identity, source_hash(guests))).encode()).hexdigest()
    directory = cache / "bundles" / f"{kernel.release}-{key[:16]}"
    if not directory.is_dir():
        # The lock of the kit covers its bundles: a build without bubblewrap writes to the kit.
        place = workshop(cache, kit.name)
        with exclusive(place, progress):
            # Another run may have made it while this one waited.
            if not directory.is_dir():
                _make(kernel, kit, guests, directory, cache=cache, place=place, progress=progress)
    module, settings = directory / "memtype.ko", directory / "config"
    return Bundle(
        spec=spec,
        release=kernel.release,
        version=kernel.version if isinstance(kernel, Kernel) else "local",
        image=directory / "image",
        module=module if module.exists() else None,
        stripped_module=directory / STRIPPED_MODULE if module.exists() else None,
        agent=directory / AGENT,
        initramfs=directory / "initramfs.cpio",
        launcher=directory / LAUNCHER,
        config=settings if settings.exists() else None,
        key=key,
        directory=directory,
        kit=kit,
    )


def resolve(spec: str, *, progress: Progress = silent) -> str:
    """The exact kernel that a spec stands for at present, as a spec of its own; nothing is fetched.

    "debian:bookworm" becomes "debian:6.1.0-56-cloud-amd64".

    :raises UsageError: the spec can't be used.
    :raises KernelError: the kernel can't be found.
    """
    kernel = _find(parse(spec), cache=resources.cache_directory(), progress=progress)
    return kernel.name if isinstance(kernel, LocalKernel) else f"debian:{kernel.release}"


def source_hash(sources: Path) -> str:
    """Hash of the names and contents of all the guest's sources."""
    digest = hashlib.sha256()
    for path in source_files(sources):
        data = path.read_bytes()
        digest.update(f"{path.relative_to(sources)}\0{len(data)}\0".encode())
        digest.update(data)
    return digest.hexdigest()


def _find(wanted: Spec, *, cache: Path, progress: Progress) -> Kernel | LocalKernel:
    if not isinstance(wanted, DebianSpec):
        return find_local(wanted)
    try:
        kernel = find(wanted, cache=cache, progress=progress)
    except KernelError as error:
        # What was downloaded once stays usable when mirrors drop it.
        kept = [kernel for kernel in _kept(cache) if kernel.release == wanted.release]
        if not kept:
            raise
        progress(f"{error.message}; using what is in the cache")
        return kept[-1]
    if kernel.headers:
        return kernel
    with_headers = [other for other in _kept(cache) if other.headers]
    return next(
        (
            other
            for other in with_headers
            if (other.release, other.version) == (kernel.release, kernel.version)
        ),
        kernel,
    )


def _kept(cache: Path) -> list[Kernel]:
    """The kernels of all kits in the cache."""
    found = ((kit, kernel_of(kit)) for kit in kits(cache))
    return [kernel for kit, kernel in found if kernel is not None and kit_path(kernel, cache=cache) == kit]


def _make(
    kernel: Kernel | LocalKernel,
    kit: Path,
    guests: Path,
    directory: Path,
    *,
    cache: Path,
    place: Path,
    progress: Progress,
) -> None:
    what = f"kernel {kernel.release}"
    if not kit.is_dir():
        if isinstance(kernel, Kernel):
            progress(f"downloading {what} and its compiler")
            fetch(kernel, cache=cache, place=place)
        else:
            progress("downloading the tools for the guest")
            fetch_tools(cache=cache, place=place)
    with_module = isinstance(kernel, LocalKernel) or kernel.headers
    settings = kernel.config if isinstance(kernel, LocalKernel) else config(kit)
    # Debian's kernels have what a guest needs; checking them costs nothing.
    if settings is not None:
        requirements.check(settings, what=what, module=with_module)
    without = "" if with_module else ", without the module: the mirror has dropped the headers of this kernel"
    progress(f"building the guest for {kernel.release}{without}")
    with scratch(place) as work, under_construction(directory, cache=place) as target:
        target.mkdir()
        copy_sources(guests, work)
        release = kernel.release if with_module else None
        if isinstance(kernel, LocalKernel):
            build_module_on_host(kernel.build, compiler=kernel.compiler, work=work, what=what)
            release = None
        build(kit, release=release, sources=guests, work=work, target=target, what=what)
        shutil.copyfile(kernel.image if isinstance(kernel, LocalKernel) else image(kit), target / "image")
        if settings is not None:
            shutil.copyfile(settings, target / "config")
        flush(target)
