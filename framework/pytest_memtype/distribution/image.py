"""A Debian installed by mmdebstrap and packed into a read-only file system, as ``guests/debian`` says."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator
from pathlib import Path

from pytest_memtype.distribution.packing import pack, packing_kit
from pytest_memtype.host import resources
from pytest_memtype.host.progress import Progress
from pytest_memtype.host.store import made_once, require_space, seal, staged, temp_dir
from pytest_memtype.kernels.mmdebstrap import install
from pytest_memtype.kernels.sources import sources_of

FOLDER = "images"
"""The folder of images in the cache."""

SUITES = ("bookworm", "trixie")
"""The suites that ``--guest debian:`` takes."""

_NEEDED_BYTES = 2 << 30
# lz4 unpacks fastest, which counts where instructions are emulated. The folder at the top would belong to
# the user who packs, and every user could write to it.
_PACK = """
sqfstar -quiet -no-progress -comp lz4 -root-mode 755 -root-uid 0 -root-gid 0 root.sqfs < root.tar
rm root.tar
"""
# A machine id, because a guest without one would take this for its first boot, and do much.
_SETTLE = """
echo memtype > "$1/etc/hostname"
echo 6d656d747970656d656d747970656d65 > "$1/etc/machine-id"
rm -f "$1"/etc/ssh/ssh_host_*
chmod 755 "$1/usr/lib/memtype/take-keys"
for unit in {masked}; do ln -sf /dev/null "$1/etc/systemd/system/$unit"; done
chroot "$1" systemctl enable --quiet memtype-keys memtype-ready memtype-shell ssh systemd-networkd
rm -rf "$1"/var/cache/apt/*.bin "$1"/var/lib/apt/lists/*_* "$1"/var/log/*.log
"""


def recipe() -> Path:
    """The folder ``guests/debian``, from which images are made."""
    return resources.guest_sources() / "debian"


def lines_of(path: Path) -> list[str]:
    """The lines of a file that are neither empty nor a comment."""
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def image(suite: str, *, progress: Progress) -> Path:
    """The image of a Debian suite, from the cache or built.

    :param suite: One of :data:`SUITES`.
    :param progress: Called with a line at the start of each slow stage.
    :raises KernelError: a package can't be had or installed.
    :raises HostError: the host lacks a program, a user namespace or space.
    :returns: a squashfs file, which never changes.
    """
    cache = resources.cache_directory()
    folder = cache / FOLDER / f"debian-{suite}-{_digest(suite)}"

    def make(place: Path) -> None:
        kit = packing_kit(progress=progress)
        progress(f"building the image of debian:{suite}")
        _build(suite, folder, kit=kit, cache=cache, place=place)

    made_once(folder, make, cache=cache, work=folder.name, progress=progress)
    return folder / "root.sqfs"


def _digest(suite: str) -> str:
    digest = hashlib.sha256("\n".join((suite, _PACK, _SETTLE)).encode())
    for path in _inputs():
        data = path.read_bytes()
        digest.update(f"{path.relative_to(recipe())}\0{len(data)}\0".encode())
        digest.update(data)
    return digest.hexdigest()[:16]


def _inputs() -> Iterator[Path]:
    # The initramfs, which is made of init, is another file.
    settings = (path for path in (recipe() / "settings").rglob("*") if path.is_file())
    return iter(sorted((recipe() / "packages", recipe() / "masked", *settings)))


def _build(suite: str, folder: Path, *, kit: Path, cache: Path, place: Path) -> None:
    what = f"the image of debian:{suite}"
    require_space(cache, _NEEDED_BYTES)
    with temp_dir(place) as work, staged(folder, cache=place) as target:
        masked = " ".join(lines_of(recipe() / "masked"))
        install(
            sources_of(suite),
            work / "root.tar",
            packages=lines_of(recipe() / "packages"),
            hooks=(f"sync-in {shlex.quote(str(recipe() / 'settings'))} /", _SETTLE.format(masked=masked)),
            what=what,
            cache=cache,
        )
        pack(kit, _PACK, work=work, what=what)
        target.mkdir()
        (work / "root.sqfs").rename(target / "root.sqfs")
        seal(target)
