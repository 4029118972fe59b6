"""The image of the outer guest: a Debian with QEMU, Python and what the project depends on.

It has no init system and no package manager: packages are unpacked as those of kernels' compilers are,
without root and without their maintainer scripts, and two short scripts beside this file start it.
"""

from __future__ import annotations

import hashlib
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pytest_memtype.distribution.packing import busybox, pack, packing_kit
from pytest_memtype.errors import HostError, KernelError
from pytest_memtype.host.cached_folders import OUTER_GUESTS
from pytest_memtype.host.progress import Progress
from pytest_memtype.host.resources import cache_directory
from pytest_memtype.host.store import (
    build_dir,
    discard,
    exclusive,
    flush,
    require_space,
    staged,
    temp_dir,
)
from pytest_memtype.kernels import initramfs, sandbox
from pytest_memtype.kernels.mmdebstrap import unpack
from pytest_memtype.kernels.module_tree import ModuleTree, module_name
from pytest_memtype.kernels.sources import sources_of

SUITE: Final = "trixie"
_PYTHON: Final = "3.13"
"""Of that suite, as pip names it."""

_PACKAGES: Final = (
    "base-files",
    "coreutils",
    "dash",
    "gzip",
    "kmod",
    # numpy's.
    "libstdc++6",
    # Has KVM for AMD and Intel, and a fifth of the other kernel's modules.
    "linux-image-cloud-amd64",
    "mount",
    "python3",
    "qemu-system-x86",
    "util-linux",
)
_MODULES: Final = ("virtio_pci", "virtio_blk", "squashfs", "kvm_amd")
_HERE: Final = Path(__file__).resolve().parent
PROJECT: Final = _HERE.parents[2]
#: What the project depends on, in the versions that ./hil run installs.
LOCK = PROJECT / "requirements" / "run.txt"
# Without their scripts packages make no users, and QEMU asks for root's.
_HOOK: Final = """
cd "$1"
mkdir src memtype
rm -rf usr/share/doc usr/share/info usr/share/locale usr/share/man var/cache/apt
echo 'root:x:0:0:root:/tmp:/bin/sh' > etc/passwd
echo 'root:x:0:' > etc/group
"""
# The image is emulated, so what can be done natively is done here: Python's compiler takes ten times as long
# in there. What is unpacked belongs to whoever did it.
_PACK: Final = """
mksquashfs root root.sqfs -quiet -no-progress -comp lz4 -all-root -e boot
"""
_COMPILE: Final = "python3 -m compileall -q {folders}"
_NEEDED_BYTES: Final = 3 << 30
_KEPT: Final = 2
_PIP_SECONDS: Final = 900
_COMPILE_SECONDS: Final = 600


@dataclass(frozen=True)
class OuterImage:
    """The files that the outer guest boots from. They never change.

    :param root: The unpacked root folder, in which this host can run the image's Python.
    :param disk: The same as a squashfs file.
    """

    kernel: Path
    initramfs: Path
    disk: Path
    root: Path

    @property
    def key(self) -> str:
        """Stands for the contents of all of them."""
        return self.disk.parent.name


def outer_image(*, progress: Progress) -> OuterImage:
    """The image, from the cache or built, which takes a minute.

    :raises KernelError: a package can't be had.
    :raises HostError: the host lacks a program or space.
    """
    cache = cache_directory()
    folder = cache / OUTER_GUESTS / f"outer-{digest()}"
    if not folder.is_dir():
        place = build_dir(cache, folder.name)
        with exclusive(place, progress):
            # Another run may have made it while this one waited.
            if not folder.is_dir():
                kit = packing_kit(progress=progress)
                progress("building the outer guest's image")
                _build(folder, kit=kit, cache=cache, place=place)
                keep_latest("outer-*", place=place)
    return OuterImage(folder / "kernel", folder / "initramfs.cpio", folder / "root.sqfs", folder / "root")


def keep_latest(pattern: str, *, place: Path) -> None:
    """Remove all but the two newest of what the cache has for outer guests: two checkouts may take turns.

    :param place: The folder of whose lock the caller is the holder.
    """
    found = (cache_directory() / OUTER_GUESTS).glob(pattern)
    for old in sorted(found, key=lambda each: each.stat().st_mtime, reverse=True)[_KEPT:]:
        discard(old, cache=place)


def digest() -> str:
    """Stands for all that the image is made from."""
    scripts = ((_HERE / name).read_text() for name in ("init", "start"))
    parts = (SUITE, _PYTHON, *_PACKAGES, *_MODULES, _HOOK, _PACK, _COMPILE, LOCK.read_text(), *scripts)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _build(folder: Path, *, kit: Path, cache: Path, place: Path) -> None:
    require_space(cache, _NEEDED_BYTES)
    what = "the outer guest's image"
    with temp_dir(place) as work, staged(folder, cache=place) as target:
        target.mkdir()
        root = work / "root"
        unpack(sources_of(SUITE), root, packages=_PACKAGES, hook=_HOOK, what=what, cache=cache)
        shutil.copyfile(_HERE / "start", root / "memtype" / "start")
        install_dependencies(work / "site")
        shutil.move(work / "site", root / "memtype" / "site")
        _compile(root, work)
        shutil.copyfile(next((root / "boot").glob("vmlinuz-*")), target / "kernel")
        initramfs.write(target / "initramfs.cpio", _initramfs(root, busybox(kit)))
        pack(kit, _PACK, work=work, what=what)
        (work / "root.sqfs").rename(target / "root.sqfs")
        root.rename(target / "root")
        flush(target)


def install_dependencies(folder: Path) -> None:
    """Let this Python's pip fetch what the lock names for the image's Python.

    :raises HostError: pip can't, or what came hasn't the hash that the lock has.
    """
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--target", str(folder), "--python-version", _PYTHON, "--implementation", "cp"]
    command += ["--only-binary=:all:", "--no-compile"]
    command += ["--require-hashes", "--requirement", str(LOCK)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise HostError(f"pip was not done in {_PIP_SECONDS} s; check the network") from None
    if done.returncode != 0:
        raise HostError(
            f"pip could not fetch {LOCK.name} of requirements/ for the outer guest; check the network",
            details=tuple(done.stderr.splitlines()[-10:]),
        )


def _compile(root: Path, work: Path) -> None:
    """Compile all Python in the root folder, by its own Python."""
    site, library = "memtype/site", f"usr/lib/python{_PYTHON}"
    # The sandbox can write to one folder only, so there it is done; the names in tracebacks aren't used.
    source = work / "compiled"
    source.mkdir()
    for number, name in enumerate((site, library)):
        (root / name).rename(source / str(number))
        # Python itself needs its library meanwhile.
        if name == library:
            shutil.copytree(source / str(number), root / name, symlinks=True)
    done = sandbox.run(root, source=source, script=_COMPILE.format(folders="0 1"), limit=_COMPILE_SECONDS)
    shutil.rmtree(root / library)
    for number, name in enumerate((site, library)):
        (source / str(number)).rename(root / name)
    if done.status != 0:
        raise KernelError(
            "the outer guest's Python can't be compiled; its last lines follow",
            details=tuple(done.output.splitlines()[-10:]),
        )


def _initramfs(root: Path, busybox: Path) -> Iterator[initramfs.Entry]:
    release = next((root / "usr/lib/modules").iterdir())
    built_in = (release / "modules.builtin").read_text().splitlines()
    tree = ModuleTree(release, frozenset(module_name(Path(line).stem) for line in built_in))
    found = tree.load_order(_MODULES)
    for name in ("bin", "dev", "proc", "root", "modules"):
        yield initramfs.Entry(name, stat.S_IFDIR | 0o755)
    # init has its output on the console before it mounts devtmpfs.
    yield initramfs.Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    yield initramfs.Entry("init", stat.S_IFREG | 0o755, (_HERE / "init").read_bytes())
    yield initramfs.Entry("bin/busybox", stat.S_IFREG | 0o755, busybox.read_bytes())
    for name, content in found.items():
        yield initramfs.Entry(f"modules/{name}.ko", stat.S_IFREG | 0o644, content)
    order = "".join(f"{name}\n" for name in found).encode()
    yield initramfs.Entry("modules/order", stat.S_IFREG | 0o644, order)
