"""Export and import of kernels in a file, for a machine without a network: ``memtype cache``."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pytest_memtype.errors import HostError, KernelError, UsageError, reason
from pytest_memtype.host import resources
from pytest_memtype.host.files import atomically, read_small
from pytest_memtype.host.progress import Progress, silent
from pytest_memtype.host.store import (
    SUMS,
    build_dir,
    exclusive,
    flush,
    is_whole,
    put_into_place,
    require_space,
    seal,
    temp_dir,
)
from pytest_memtype.kernels import firmware, sealed_tar
from pytest_memtype.kernels.build import AGENT, LAUNCHER, STRIPPED_MODULE
from pytest_memtype.kernels.bundle import bundle, bundle_path, find_kernel, kept_kernels, source_hash
from pytest_memtype.kernels.fetch import KERNEL, KERNEL_BYTES, kernel_of, kit_path, note_kernel
from pytest_memtype.kernels.index import Kernel, in_order
from pytest_memtype.kernels.kept_indexes import INDEX_BYTES, decode, kept_indexes, path_of, read_kept
from pytest_memtype.kernels.sets import expand
from pytest_memtype.kernels.spec import RELEASE, SUITES, parse

# The files that the other machine boots from; a bundle without a module lacks some.
_BUNDLE = frozenset(
    ("image", AGENT, "initramfs.cpio", LAUNCHER, "kernel.json", "config", "memtype.ko", STRIPPED_MODULE, SUMS)
)
_NEEDED = frozenset(("image", AGENT, "initramfs.cpio", LAUNCHER, "kernel.json"))
# The names in a kit that code on the host reads or writes: no link may lead elsewhere from there.
_HOSTS = frozenset(("memtype", "src", "dev", "proc", KERNEL))
# Bytes: a line for each file.
_SUMS_BYTES = 64 << 10
# The longest chain of links that is followed; three are usual.
_MOST_LINKS = 10
_LINK_BYTES = 255
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~_-]*")
# They become part of shell commands when a kit is fetched.
_VERSION = re.compile(r"[0-9][0-9A-Za-z.+~:-]*")
_IMAGE = re.compile(r"linux-(?:image|binary)-[0-9A-Za-z.+~-]+")


@dataclass(frozen=True)
class Carried:
    """The contents of a file of kernels, as it was written or read.

    :param kernels: The kernels, the oldest first.
    :param new: Folders that weren't in the cache, such as ``bundles/X``.
    :param toolchains: Number of kernels whose toolchain is in the file.
    :param firmware: Whether OVMF is in the file.
    :param indexes: The suites whose indexes were written, or taken over.
    """

    kernels: tuple[Kernel, ...]
    new: tuple[str, ...]
    toolchains: int
    firmware: bool
    indexes: tuple[str, ...]


def export(file: Path, specs: Sequence[str], *, with_toolchain: bool = False, progress: Progress) -> Carried:
    """Write kernels of the cache to a file: what guests boot from, OVMF if it is there, and the indexes.

    No mirror should be asked: see :func:`pytest_memtype.kernels.mirror.stay_offline`.

    :param file: The path of the file to write; a file that is there is replaced.
    :param specs: Specs of Debian's kernels, or ``set:NAME``.
    :param with_toolchain: Write the toolchains, too, several hundred MiB for each kernel: another version of
        pytest-memtype, whose guests have other sources, builds the kernels anew with them.
    :param progress: Called with a line at the start of each slow stage.
    :raises UsageError: a spec isn't one of Debian's kernels, or the file can't be written.
    :raises KernelError: a kernel isn't in the cache, or is damaged and can't be built anew.
    :raises HostError: the firmware is damaged.
    """
    cache = resources.cache_directory()
    kernels = _chosen(specs, cache=cache, progress=progress)
    sources = source_hash(resources.guest_sources())
    folders: dict[str, Path] = {}
    for kernel in kernels:
        folder, kit = bundle_path(kernel, sources, cache=cache), kit_path(kernel, cache=cache)
        if not is_whole(folder, silent):
            bundle(f"debian:{kernel.release}", progress=progress)
        if kernel_of(folder) is None:
            # A bundle of an earlier version doesn't say what it is of.
            note_kernel(kernel, folder)
            seal(folder)
        folders[f"bundles/{folder.name}"] = folder
        if with_toolchain and not kit.is_dir():
            raise KernelError(
                f"kernel {kernel.release}: the cache has no toolchain of it; leave out --with-toolchain, or "
                f"get it with the network (memtype kernels fetch debian:{kernel.release})"
            )
        if with_toolchain:
            folders[f"kits/{kit.name}"] = kit
    for path in firmware.kept(cache):
        if not is_whole(path, silent):
            raise HostError(f"{path} is damaged; remove it (memtype cache remove {path.name})")
        folders[f"{firmware.FOLDER}/{path.name}"] = path
    kept = {suite: path_of(cache, suite) for suite in kept_indexes(cache, SUITES)}
    folders |= {f"index/{path.name}": path for path in kept.values()}
    progress(f"writing {file}")
    with atomically(file) as unfinished:
        facts = {"kernels": [asdict(kernel) for kernel in kernels]}
        sealed_tar.write(unfinished, folders, facts, allowed=_allowed, left_out=_left_out)
    return Carried(
        tuple(kernels), tuple(folders), len(kernels) * with_toolchain, bool(firmware.kept(cache)), tuple(kept)
    )


def import_kernels(file: Path, *, progress: Progress) -> Carried:
    """Take over the kernels of a file that :func:`export` has written; what is in the cache already stays.

    The whole file is checked before the first folder appears in the cache.

    :param file: The path of the file.
    :param progress: Called with a line at the start of each slow stage.
    :raises HostError: the disk is full.
    :raises UsageError: the file is damaged, hostile, or of no use to this version of pytest-memtype.
    """
    cache = resources.cache_directory()
    place = build_dir(cache, "import")
    with exclusive(place, progress), temp_dir(place) as folder:
        progress(f"reading {file}")
        try:
            sealed_tar.unpack(
                file, folder, allowed=_allowed, on_size=lambda size: require_space(cache, size + (64 << 20))
            )
        except IsADirectoryError as error:
            raise UsageError(f"{file}: {reason(error)}") from None
        kernels = list(_checked(file, folder, cache=cache))
        suites = list(_checked_indexes(file, folder))
        _check_sums(file, folder)
        names = list(_folders(folder))
        new = [name for name in names if _move(folder, name, cache=cache, progress=progress)]
        taken = [suite for suite in suites if _move_index(folder, cache, suite, progress=progress)]
    return Carried(
        tuple(in_order(kernels)),
        tuple(new),
        sum(name.startswith("kits/") for name in names),
        any(name.startswith(f"{firmware.FOLDER}/") for name in names),
        tuple(taken),
    )


def _chosen(specs: Iterable[str], *, cache: Path, progress: Progress) -> list[Kernel]:
    """The kernels to export, the oldest first, each once."""
    sources = source_hash(resources.guest_sources())
    found: dict[str, Kernel] = {}
    for spec in expand(specs, progress=progress):
        kernel = find_kernel(parse(spec), sources, cache=cache, progress=progress)
        if not isinstance(kernel, Kernel):
            raise UsageError(f"kernel {spec!r}: it was built on this host, and only Debian's can be exported")
        is_there = bundle_path(kernel, sources, cache=cache), kit_path(kernel, cache=cache)
        if not any(path.is_dir() for path in is_there):
            has = ", ".join(f"debian:{each.release}" for each in in_order(kept_kernels(cache, sources)))
            which = "" if spec == f"debian:{kernel.release}" else f"{kernel.release} is "
            raise KernelError(f"kernel {spec!r}: {which}not in the cache, which has {has or 'none'}")
        found[kernel.release] = kernel
    return in_order(found.values())


def _allowed(name: str, member: sealed_tar.Member, members: Mapping[str, sealed_tar.Member]) -> bool:
    """Whether an export may hold a member. Only toolchains, which are root folders, have links."""
    match name.split("/"):
        case ["bundles" | "kits" | firmware.FOLDER | "index"]:
            return member.kind == "folder"
        case ["index", file]:
            return (
                member.kind == "file"
                and member.size <= INDEX_BYTES
                and file in {path_of(Path(), suite).name for suite in SUITES}
            )
        case ["bundles" | "kits" | firmware.FOLDER, folder]:
            return member.kind == "folder" and bool(_FOLDER.fullmatch(folder))
        case ["bundles", _, "kernel.json"] | ["kits", _, "memtype", "kernel.json"] if (
            member.size > KERNEL_BYTES
        ):
            return False
        case ["bundles" | firmware.FOLDER, _, file] if file == SUMS and member.size > _SUMS_BYTES:
            return False
        case ["bundles" | firmware.FOLDER as kind, _, file]:
            return member.kind == "file" and file in _names(kind)
        case ["kits", folder, *inside]:
            return member.kind != "link" or _stays_inside(f"kits/{folder}", inside, members)
    return False


def _left_out(name: str, member: sealed_tar.Member) -> bool:
    """Whether this version of the package works without a member."""
    match name.split("/"):
        case ["kits", _, "dev", *_]:
            # mmdebstrap makes links as dev/fd, which no build looks at.
            return member.kind == "link"
        case ["bundles" | firmware.FOLDER as kind, _, file]:
            return file not in _names(kind)
    return False


def _names(kind: str) -> frozenset[str]:
    """The names that a folder of a bundle or of firmware may have in an export.

    Another version, which shares the cache, may have put more there.

    :param kind: The folder above it.
    """
    return _BUNDLE if kind == "bundles" else frozenset((*firmware.FILES, SUMS))


def _stays_inside(root: str, name: Sequence[str], members: Mapping[str, sealed_tar.Member]) -> bool:
    """Whether a link of a toolchain leads to a place in the toolchain, through all other links on its way.

    A target that begins with "/" begins at the toolchain's root.

    :param root: The toolchain's folder, as the members name it.
    :param name: The link's name in the toolchain, in parts.
    :param members: The members of the file, by name.
    """
    if name[0] in _HOSTS:
        return False
    at, left, links = list(name[:-1]), deque(name[-1:]), 0
    while left:
        part = left.popleft()
        if part == "..":
            if not at:
                return False
            at.pop()
            continue
        if part in ("", "."):
            continue
        at.append(part)
        there = members.get("/".join((root, *at)))
        if there is None or there.kind != "link":
            continue
        links += 1
        if links > _MOST_LINKS or len(there.target) > _LINK_BYTES:
            return False
        at = [] if there.target.startswith("/") else at[:-1]
        left.extendleft(reversed(there.target.split("/")))
    return True


def _folders(folder: Path, all_of: Iterable[str] = ("kits", "bundles", firmware.FOLDER)) -> Iterator[str]:
    """The names of the folders in an unpacked export, kits before the bundles that are built in them."""
    for kind in all_of:
        for path in sorted((folder / kind).iterdir()) if (folder / kind).is_dir() else ():
            yield f"{kind}/{path.name}"


def _checked(file: Path, folder: Path, *, cache: Path) -> Iterator[Kernel]:
    """The kernels of an unpacked export.

    :param file: The file that it came from, for the message of an error.
    :param folder: The folder that it was unpacked into.
    :param cache: The cache folder, which may have the toolchain of a bundle that can't be used as it is.
    :raises UsageError: a kernel is damaged, or can't be used by this version of pytest-memtype.
    """
    sources = source_hash(resources.guest_sources())
    kits = set()
    for name in _folders(folder, ("kits",)):
        kernel = _checked_kernel(file, folder / name)
        if kit_path(kernel, cache=cache).name == (folder / name).name:
            kits.add(kernel)
    for name in _folders(folder, ("bundles",)):
        kernel = _checked_kernel(file, folder / name)
        missing = _NEEDED - {path.name for path in (folder / name).iterdir()}
        if missing or not (folder / name).name.startswith(f"{kernel.release}-"):
            raise UsageError(f"{file}: damaged: {name} is no bundle of {kernel.release}")
        usable = bundle_path(kernel, sources, cache=cache).name == (folder / name).name
        if not usable and kernel not in kits and not kit_path(kernel, cache=cache).is_dir():
            raise UsageError(
                f"{file}: kernel {kernel.release} was built for guests of another version of pytest-memtype; "
                "export it with the version that is used here, or with --with-toolchain to build it here"
            )
        yield kernel


def _checked_kernel(file: Path, folder: Path) -> Kernel:
    kernel = kernel_of(folder)
    if kernel is None or not _makes_sense(kernel):
        raise UsageError(f"{file}: damaged: {folder.name} doesn't say which kernel it is of")
    return kernel


def _makes_sense(kernel: Kernel) -> bool:
    texts = (kernel.release, kernel.version, kernel.suite, kernel.image)
    return (
        all(isinstance(text, str) for text in texts)
        and isinstance(kernel.headers, bool)
        and bool(RELEASE.fullmatch(kernel.release))
        and bool(_VERSION.fullmatch(kernel.version))
        and kernel.suite in SUITES
        and bool(_IMAGE.fullmatch(kernel.image))
    )


def _checked_indexes(file: Path, folder: Path) -> Iterator[str]:
    """The suites of the indexes in an unpacked export.

    :param file: The file that they came from, for the message of an error.
    :param folder: The folder that it was unpacked into.
    :raises UsageError: an index is damaged.
    """
    for suite in SUITES:
        path = path_of(folder, suite)
        if not path.is_file():
            continue
        try:
            index, _ = decode(read_small(path, most=INDEX_BYTES))
        except (OSError, ValueError):
            raise UsageError(f"{file}: damaged: its index of {suite} makes no sense") from None
        newest = index.newest is None or (
            isinstance(index.newest, str) and bool(RELEASE.fullmatch(index.newest))
        )
        if not newest or not all(_makes_sense(kernel) for kernel in index.kernels):
            raise UsageError(f"{file}: damaged: its index of {suite} makes no sense")
        yield suite


def _check_sums(file: Path, folder: Path) -> None:
    """Check that no folder of an unpacked export was damaged before it was written to the file.

    Its checksums may be of files that were left out.

    :param file: The file that they came from, for the message of an error.
    :param folder: The folder that it was unpacked into.
    :raises UsageError: a folder isn't as it was when it was made.
    """
    for name in _folders(folder, ("bundles", firmware.FOLDER)):
        if not is_whole(folder / name, silent, among=_names(Path(name).parent.name)):
            raise UsageError(f"{file}: damaged: {name} was so before it was exported; export it anew there")


def _move(folder: Path, name: str, *, cache: Path, progress: Progress) -> bool:
    """Put a folder of an unpacked export into its place; False when it is there already.

    :param folder: The folder that the export was unpacked into.
    :param name: The name of a folder in it, such as ``bundles/X``.
    :param cache: The cache folder.
    :param progress: Called with a line where another run holds the lock.
    """
    unpacked, final = folder / name, cache / name
    if final.is_dir():
        return False
    if unpacked.parent.name == "kits":
        flush(unpacked)
    else:
        # All of it was checked; whoever made the file may have left some out of its checksums.
        seal(unpacked)
    # A run that makes the same holds this lock, and would not see the folder before it is done.
    with exclusive(build_dir(cache, _maker(unpacked, cache=cache)), progress):
        return put_into_place(unpacked, final)


def _maker(unpacked: Path, *, cache: Path) -> str:
    """The name of the build folder for a folder of an export: that of a kit is its bundles', too."""
    kernel = kernel_of(unpacked) if unpacked.parent.name == "bundles" else None
    return unpacked.name if kernel is None else kit_path(kernel, cache=cache).name


def _move_index(folder: Path, cache: Path, suite: str, *, progress: Progress) -> bool:
    """Take over an index that is of use and newer than the cache's own; False when the cache's stays."""
    given, final = read_kept(folder, suite), path_of(cache, suite)
    with exclusive(build_dir(cache, f"index-{suite}"), progress):
        own = read_kept(cache, suite)
        # An index from the future would never be replaced.
        if given is None or not (-1.0 if own is None else own[1]) < given[1] <= time.time():
            return False
        final.parent.mkdir(exist_ok=True)
        path_of(folder, suite).replace(final)
    return True
