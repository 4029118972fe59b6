"""The way from a kernel spec to all that a guest of that kernel boots from."""

from __future__ import annotations

import glob
import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from pytest_memtype.host import resources
from pytest_memtype.host.progress import Progress, silent
from pytest_memtype.host.store import made_once, seal, staged, temp_dir
from pytest_memtype.kernels import mirror, requirements
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
    note_kernel,
    tools_path,
)
from pytest_memtype.kernels.index import Kernel, newest
from pytest_memtype.kernels.kept_indexes import find, listed
from pytest_memtype.kernels.local import LocalKernel, find_local
from pytest_memtype.kernels.spec import DebianSpec, Spec, parse
from pytest_memtype.kernels.stage import Stage, Step

_used: dict[str, Bundle] = {}

# Part of every bundle's key: raise it when the code of this room makes other files from the same sources.
_RECIPE = "4"


@dataclass(frozen=True)
class Bundle:
    """A kernel ready to boot. Its files never change; another build gets another folder.

    :param spec: The spec as the user wrote it, "debian:bookworm".
    :param release: The release as ``uname -r`` prints it, "6.1.0-56-cloud-amd64".
    :param version: Version of the Debian package, "6.1.192-2"; that of the source for a kernel that was built
        on this host, "6.12.118".
    :param image: The bzImage, for QEMU's ``-kernel``.
    :param module: ``memtype.ko`` with debug information, None where none can be built because the mirror has
        dropped the kernel's headers. The initramfs has it as ``/memtype.ko``, without debug information.
    :param stripped_module: The module without debug information, ten times smaller; None where ``module`` is.
    :param agent: The agent, a static program.
    :param initramfs: The cpio archive, for QEMU's ``-initrd``.
    :param launcher: A library for :mod:`pytest_memtype.machine.launcher`.
    :param config: The kernel's configuration, None where no package has it any more.
    :param key: Hash of everything the bundle is made from.
    :param directory: The folder of all these files.
    :param kit: The root folder that the bundle was built in, with the compiler; it may have been removed.
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

    @property
    def is_debians(self) -> bool:
        """Is it a kernel out of Debian's archive, whose packages can be had? Else it was built on a host."""
        return kernel_of(self.directory) is not None


def bundle_in(directory: Path, *, spec: str, release: str, version: str, key: str, kit: Path) -> Bundle:
    """The bundle whose files are in a folder.

    :param directory: The folder.
    :param spec: The spec of its kernel.
    :param release: The kernel's release, as ``uname -r`` prints it.
    :param version: The version of its package.
    :param key: Hash of everything that it is made from.
    :param kit: The kit that it was built in.
    """
    module, settings = directory / "memtype.ko", directory / "config"
    return Bundle(
        spec=spec,
        release=release,
        version=version,
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


def use_bundle(spec: str, made: Bundle) -> None:
    """Have this process take a bundle for a kernel, which was built where the kernel is: on another machine.

    :param spec: The spec that means it from now on.
    :param made: The bundle.
    """
    _used[spec] = made


def bundle(spec: str, *, progress: Progress = silent, sources: Path | None = None) -> Bundle:
    """The bundle of a kernel: found in the cache, or downloaded and built.

    Runs that want one at the same time prepare it once.

    :param spec: The spec of one kernel, as a user writes it.
    :param progress: Called at the start of each slow stage: "waiting ...", "downloading ...", "building ...".
    :param sources: The folder of the guest's sources; None is for the package's own ``guests/``.
    :raises UsageError: the spec can't be used.
    :raises KernelError: the kernel can't be found, fetched or built.
    :raises HostError: the host lacks a program, or a cache folder that can be written to.
    """
    if spec in _used:
        return _used[spec]
    wanted = parse(spec)
    guests = resources.guest_sources() if sources is None else sources
    cache = resources.cache_directory()
    own_hash = source_hash(guests)
    kernel = find_kernel(wanted, own_hash, cache=cache, progress=progress)
    kit = tools_path(cache=cache) if isinstance(kernel, LocalKernel) else kit_path(kernel, cache=cache)
    key = _key(kernel, own_hash, cache=cache)
    directory = bundle_path(kernel, own_hash, cache=cache)

    def make(place: Path) -> None:
        _make(kernel, kit, guests, directory, cache=cache, place=place, progress=progress)

    # The lock of the kit covers its bundles: a build without bubblewrap writes to the kit.
    made_once(directory, make, cache=cache, work=kit.name, progress=progress)
    return bundle_in(directory, spec=spec, release=kernel.release, version=kernel.version, key=key, kit=kit)


def resolve(spec: str, *, progress: Progress = silent) -> str:
    """The exact kernel that a spec stands for at present, as a spec of its own; nothing is fetched.

    "debian:bookworm" becomes "debian:6.1.0-56-cloud-amd64".

    :param spec: The spec of one kernel, as a user writes it.
    :param progress: Called with a line where an index is read.
    :raises UsageError: the spec can't be used.
    :raises KernelError: the kernel can't be found.
    """
    wanted, cache = parse(spec), resources.cache_directory()
    kernel = find_kernel(wanted, source_hash(resources.guest_sources()), cache=cache, progress=progress)
    return kernel.name if isinstance(kernel, LocalKernel) else f"debian:{kernel.release}"


def source_hash(sources: Path) -> str:
    """The hash of the names and contents of all the guest's sources."""
    digest = hashlib.sha256()
    for path in source_files(sources):
        data = path.read_bytes()
        digest.update(f"{path.relative_to(sources)}\0{len(data)}\0".encode())
        digest.update(data)
    return digest.hexdigest()


def bundle_path(kernel: Kernel | LocalKernel, sources: str, *, cache: Path) -> Path:
    """The folder that the bundle of a kernel has, or would have; it is complete if it is there.

    :param kernel: The kernel, Debian's or of this host.
    :param sources: The :func:`source_hash` of the guest's sources.
    :param cache: The cache folder.
    """
    return cache / "bundles" / f"{kernel.release}-{_key(kernel, sources, cache=cache)[:16]}"


def _key(kernel: Kernel | LocalKernel, sources: str, *, cache: Path) -> str:
    kit = tools_path(cache=cache) if isinstance(kernel, LocalKernel) else kit_path(kernel, cache=cache)
    identity = kernel.identity if isinstance(kernel, LocalKernel) else ""
    return hashlib.sha256("\n".join((_RECIPE, kit.name, identity, sources)).encode()).hexdigest()


def find_kernel(wanted: Spec, sources: str, *, cache: Path, progress: Progress) -> Kernel | LocalKernel:
    """The kernel that a spec stands for. An exact kernel that is in the cache takes no index.

    :param wanted: The spec.
    :param sources: The :func:`source_hash` of the guest's sources.
    :param cache: The cache folder.
    :param progress: Called with a line where an index is read.
    :raises KernelError: the kernel can't be found.
    """
    if not isinstance(wanted, DebianSpec):
        return find_local(wanted)
    if wanted.release is not None:
        # A kernel that was downloaded once stays usable, without an index. experimental's have
        # the same release for many packages; a newer one is taken where it is known without asking.
        own = kept_kernels(cache, sources, release=wanted.release)
        if own:
            others = [] if mirror.unasked() else listed(wanted.release, cache=cache)
            with_headers = [kernel for kernel in (*own, *others) if kernel.headers]
            by_version = {kernel.version: kernel for kernel in reversed(with_headers or own)}
            return newest(by_version.values())
    kernel = find(wanted, cache=cache, progress=progress)
    if kernel.headers:
        return kernel
    kept = kept_kernels(cache, sources, release=kernel.release)
    return next((other for other in kept if other.headers and other.version == kernel.version), kernel)


def kept_kernels(cache: Path, sources: str, *, release: str = "") -> list[Kernel]:
    """Debian's kernels that are in the cache, as a bundle of these sources or as a kit to build it in.

    :param cache: The cache folder.
    :param sources: The :func:`source_hash` of the guest's sources.
    :param release: Only kernels of this release; empty for all.
    """
    found = []
    # Both are named RELEASE-HASH.
    pattern = f"{glob.escape(release)}-*" if release else "*"
    for folder in (*sorted((cache / "kits").glob(pattern)), *sorted((cache / "bundles").glob(pattern))):
        kernel = kernel_of(folder)
        if kernel is None or release not in ("", kernel.release):
            continue
        # Other sources have other bundles, and other versions of this package make other kits.
        if folder in (kit_path(kernel, cache=cache), bundle_path(kernel, sources, cache=cache)):
            found.append(kernel)
    return list(dict.fromkeys(found))


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
        others = any((cache / "bundles").glob(f"{glob.escape(kernel.release)}-*"))
        mirror.require(f"{what} as this version of pytest-memtype builds it" if others else what)
        if isinstance(kernel, Kernel):
            progress(Step(Stage.DOWNLOADING, f"{what} and its compiler"))
            fetch(kernel, cache=cache, place=place)
        else:
            progress(Step(Stage.DOWNLOADING, "the tools for the guest"))
            fetch_tools(cache=cache, place=place)
    with_module = isinstance(kernel, LocalKernel) or kernel.headers
    settings = kernel.config if isinstance(kernel, LocalKernel) else config(kit)
    # Debian's kernels have what a guest needs; checking them costs nothing.
    if settings is not None:
        requirements.check(settings, what=what, module=with_module)
    without = "" if with_module else ", without the module: the mirror has dropped the headers of this kernel"
    progress(Step(Stage.BUILDING, f"the guest for {kernel.release}{without}"))
    with temp_dir(place) as work, staged(directory, cache=place) as target:
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
        if isinstance(kernel, Kernel):
            note_kernel(kernel, target)
        seal(target)
