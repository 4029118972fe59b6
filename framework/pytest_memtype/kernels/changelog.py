"""The entries about memory types in the changelogs of Debian's kernels."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from pytest_memtype.errors import KernelError
from pytest_memtype.host.progress import Progress
from pytest_memtype.host.store import build_dir, exclusive, flush, require_space, temp_dir
from pytest_memtype.kernels.index import Kernel
from pytest_memtype.kernels.mmdebstrap import unpack
from pytest_memtype.kernels.sources import sources_of
from pytest_memtype.kernels.stage import Stage, Step

_HOOK = """
mkdir "$1/changelog"
cd "$1/changelog"
apt-get download -qq "{image}={version}"
for package in ./*.deb; do
    dpkg-deb --fsys-tarfile "$package" |
    tar -x --wildcards './usr/share/doc/*/changelog.Debian.gz' './usr/share/doc/*/changelog.gz' || true
    rm "$package"
done
"""
_NEEDED_BYTES = 256 << 20

_ABOUT = re.compile(
    r"\b(?:PAT|VM_PAT|pat(?=[:/_])|MTRRs?|mtrr\w*|memtype\w*|pfnmap\w*|(?:un)?track_pfn\w*|pgprot_\w*"
    r"|ioremap_(?:uc|wc|wt|cache|prot)|set_memory_(?:uc|wc|wt|wb)|write-?combin\w*|memory types?)\b"
    r"|/dev/mem\b"
)
# "[arm64,armhf] ...": not of this architecture.
_FOREIGN = re.compile(r"\[(?![^\]]*(?:x86|amd64))[a-z0-9][^\]]*\] ")
_NEW_SERIES = re.compile(r"New upstream release: \S*Linux_([0-9]+\.[0-9]+)")
_LINK = re.compile(r"\s*<?\bhttps?://\S+")


def changelog(kernel: Kernel, *, cache: Path, progress: Progress) -> str:
    """The changelog in a kernel's own package, kept in the cache.

    :param kernel: The kernel; its package is downloaded where the cache hasn't the changelog, or not whole.
    :param cache: The cache folder.
    :param progress: Called with a line before a download.
    :raises KernelError: the package can't be had, or holds no changelog.
    :raises HostError: the host lacks a program or space.
    """
    kept = cache / "changelogs" / f"{kernel.release}_{kernel.version}.gz"
    text = _read(kept)
    if text is None:
        place = build_dir(cache, f"changelog-{kernel.release}")
        with exclusive(place, progress), temp_dir(place) as folder:
            progress(Step(Stage.DOWNLOADING, f"the changelog of {kernel.release}"))
            require_space(cache, _NEEDED_BYTES)
            root = folder / "root"
            hook = _HOOK.format(image=kernel.image, version=kernel.version)
            what = f"the changelog of {kernel.release}"
            unpack(sources_of(kernel.suite), root, hook=hook, what=what, cache=cache)
            files = sorted((root / "changelog").rglob("changelog*.gz"))
            if not files:
                raise KernelError(f"{kernel.image} {kernel.version}: the package holds no changelog")
            kept.parent.mkdir(exist_ok=True)
            flush(files[0].parent)
            files[0].replace(kept)
        text = _read(kept)
    if text is None:
        raise KernelError(f"{kernel.image} {kernel.version}: the changelog in the package can't be read")
    return text


def _read(file: Path) -> str | None:
    """The text of a changelog; None where there is none, or a damaged one."""
    try:
        # gzip's own error is an OSError, and an empty file none to it.
        return gzip.decompress(file.read_bytes()).decode(errors="replace") or None
    except (OSError, EOFError, zlib.error):
        return None


def about_memory_types(text: str, *, after: str, upto: str) -> list[tuple[str, str]]:
    """The entries of a changelog about memory types, each (package version, entry), without links.

    :param text: The changelog of the newer package.
    :param after: The older package's version; entries up to it are left out.
    :param upto: The newer package's version; later entries are left out.
    """
    from debian.debian_support import Version

    found = []
    for version, entry in _entries(text):
        if Version(after) < Version(version) <= Version(upto) and _tells(entry):
            found.append((version, entry))
    return found


def _tells(entry: str) -> bool:
    return bool(_ABOUT.search(entry)) and not _FOREIGN.match(entry)


def new_series(text: str, *, after: str, upto: str) -> list[str]:
    """The upstream series that began between two packages, the oldest first.

    A changelog doesn't list the changes of a new series: it lists those of stable updates, and Debian's own.
    """
    from debian.debian_support import Version

    found = []
    for version, entry in _entries(text, links=True):
        match = _NEW_SERIES.search(entry)
        if match and Version(after) < Version(version) <= Version(upto):
            found.append(match[1])
    return sorted(set(found), key=lambda series: [*map(int, series.split("."))])


def _entries(text: str, *, links: bool = False) -> Iterator[tuple[str, str]]:
    from debian.changelog import Changelog

    for block in Changelog(text, allow_empty_author=True):
        entry = ""
        for line in [*block.changes(), "  * "]:
            if re.match(r"\s*[*+-] ", line):
                if entry:
                    yield str(block.version), entry if links else _LINK.sub("", entry)
                entry = re.sub(r"^\s*[*+-] ", "", line.strip())
            elif line.strip() and not re.match(r"\s*\[ .* \]\s*$", line):
                entry = f"{entry} {line.strip()}"
