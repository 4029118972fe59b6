"""What the changelogs of Debian's kernels say about memory types."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

from pytest_memtype.errors import KernelError
from pytest_memtype.kernels.index import Kernel
from pytest_memtype.kernels.mmdebstrap import unpack
from pytest_memtype.kernels.sources import sources_of
from pytest_memtype.progress import Progress
from pytest_memtype.store import exclusive, require_space, scratch, workshop

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
    r"\b(?:PAT|VM_PAT|MTRRs?|mtrr|memtype\w*|pfnmap|untrack_pfn|track_pfn\w*|pgprot\w*|ioremap\w*"
    r"|write-?combin\w*|cache ?modes?|memory types?|x86/mm/pat|devmem|set_memory\w*)\b"
)
_LINK = re.compile(r"\s*<?\bhttps?://\S+")


def changelog(kernel: Kernel, *, cache: Path, progress: Progress) -> str:
    """The changelog in a kernel's own package, kept in the cache.

    :raises KernelError: the package can't be had, or holds none.
    """
    kept = cache / "changelogs" / f"{kernel.release}_{kernel.version}.gz"
    if not kept.exists():
        place = workshop(cache, f"changelog-{kernel.release}")
        with exclusive(place, progress), scratch(place) as folder:
            progress(f"downloading the changelog of {kernel.release}")
            require_space(cache, _NEEDED_BYTES)
            root = folder / "root"
            hook = _HOOK.format(image=kernel.image, version=kernel.version)
            what = f"the changelog of {kernel.release}"
            unpack(sources_of(kernel.suite), root, hook=hook, what=what, cache=cache)
            files = sorted((root / "changelog").rglob("changelog*.gz"))
            if not files:
                raise KernelError(f"{kernel.image} {kernel.version}: the package holds no changelog")
            kept.parent.mkdir(exist_ok=True)
            files[0].replace(kept)
    return gzip.decompress(kept.read_bytes()).decode(errors="replace")


def about_memory_types(text: str, *, after: str, upto: str) -> list[tuple[str, str]]:
    """Entries of a changelog about memory types, each (package version, entry), without links.

    :param after: The older package's version; entries up to it are left out.
    :param upto: The newer package's.
    """
    from debian.debian_support import Version

    found = []
    for version, entry in _entries(text):
        if Version(after) < Version(version) <= Version(upto) and _ABOUT.search(entry):
            found.append((version, _LINK.sub("", entry)))
    return found


def _entries(text: str) -> Iterator[tuple[str, str]]:
    from debian.changelog import Changelog

    for block in Changelog(text, allow_empty_author=True):
        entry = ""
        for line in [*block.changes(), "  * "]:
            if re.match(r"\s*[*-] ", line):
                if entry:
                    yield str(block.version), entry
                entry = re.sub(r"^\s*[*-] ", "", line.strip())
            elif line.strip() and not re.match(r"\s*\[ .* \]\s*$", line):
                entry = f"{entry} {line.strip()}"
