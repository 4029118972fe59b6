"""Which kernels a suite has, by apt's own index of it."""

from __future__ import annotations

import json
import re
import time
from bisect import bisect
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_memtype.errors import HostError, KernelError
from pytest_memtype.kernels.mmdebstrap import unpack
from pytest_memtype.kernels.sources import sources_of
from pytest_memtype.kernels.spec import SUITES, DebianSpec
from pytest_memtype.progress import Progress
from pytest_memtype.store import exclusive, flush, scratch, workshop

# A warm start reads JSON only; python-debian is slow to load.
if TYPE_CHECKING:
    from debian.debian_support import Version

# Debian publishes a kernel every week or so.
_FRESH_SECONDS = 24 * 3600
_FORMAT = 2
# Reading an index is half waiting for the mirror, half work of one core.
_AT_ONCE = 4

# experimental's first of a series has no third number: 7.3-cloud-amd64.
_RELEASE = r"[0-9]+\.[0-9]+[0-9a-z.+~-]*-(?:cloud-|rt-)?amd64"
# From 6.19 on the image is in linux-binary-X; before, linux-image-X. The signed one has the plain name.
_IMAGE = re.compile(
    rf"linux-(?:image|binary)-(?P<mark>unsigned-)?(?P<release>{_RELEASE})(?P<unsigned>-unsigned)?"
)
_NEWEST_CLOUD = "linux-image-cloud-amd64"
_CLOUD = "-cloud-amd64"

# apt keeps the index compressed or not, as the host's settings have it; apt-helper reads either.
_DUMP = r"""
mkdir "$1/kernels"
apt-get indextargets --format '$(RELEASE) $(FILENAME)' 'Created-By: Packages' |
while read -r release file; do
    /usr/lib/apt/apt-helper cat-file "$file" |
    awk -v RS= -v ORS='\n\n' '/^Package: linux-(image|binary|headers)-/' >> "$1/kernels/$release"
done
"""


@dataclass(frozen=True)
class Kernel:
    """One kernel in Debian's archive.

    :param release: As ``uname -r`` prints it, "6.1.0-56-cloud-amd64".
    :param version: Version of its packages, "6.1.192-2".
    :param suite: The suite whose sources have it, "bookworm".
    :param image: Name of the package that holds the bootable image.
    :param headers: Are its headers still there? Without them no module can be built for it: mirrors
        drop the headers of old backports, but keep their images.
    """

    release: str
    version: str
    suite: str
    image: str
    headers: bool = True

    @property
    def series(self) -> str:
        """Its upstream series, "6.1"."""
        return _series(self.version)

    @property
    def cloud(self) -> bool:
        """Is it a cloud kernel, the flavour that is tested when nobody names one?"""
        return self.release.endswith(_CLOUD)


@dataclass(frozen=True)
class Index:
    """The kernels of one suite.

    :param newest: Release of the kernel the suite's own ``linux-image-cloud-amd64`` stands for.
        A suite may hold newer ones: bookworm-security carries trixie's 6.12 besides its own 6.1.
    :param kernels: In no order.
    """

    newest: str | None
    kernels: tuple[Kernel, ...]


def find(spec: DebianSpec, *, cache: Path, progress: Progress) -> Kernel:
    """The kernel a spec stands for.

    Indexes older than a day are refreshed; one that can't be is used as it is, and ``progress`` says so.

    :raises KernelError: no kernel fits, or no index could be had.
    """
    suites = SUITES if spec.suite is None else (spec.suite,)
    return choose(spec, indexes(suites, cache=cache, progress=progress))


def every(*, cache: Path, progress: Progress) -> list[Kernel]:
    """All cloud kernels of all suites, the oldest first; of several packages of one release the newest.

    :raises KernelError: no index could be had.
    """
    found = indexes(SUITES, cache=cache, progress=progress)
    kernels = [kernel for index in found.values() for kernel in index.kernels if kernel.cloud]
    return list({kernel.release: kernel for kernel in sorted(kernels, key=_age)}.values())


def newest_of_each_series(kernels: Iterable[Kernel]) -> list[Kernel]:
    """One kernel of each upstream series, the oldest first."""
    newest = {kernel.series: kernel for kernel in sorted(kernels, key=_age)}
    return sorted(newest.values(), key=_age)


def indexes(suites: Iterable[str], *, cache: Path, progress: Progress) -> dict[str, Index]:
    """The indexes of suites, at most a day old where that can be had.

    :raises KernelError: none of them could be had.
    """
    wanted = tuple(suites)
    found = {suite: _load(cache, suite, max_age=_FRESH_SECONDS) for suite in wanted}
    stale = [suite for suite, index in found.items() if index is None]
    if not stale:
        return {suite: index for suite, index in found.items() if index is not None}

    def refresh(suite: str) -> KernelError | HostError | None:
        place = workshop(cache, f"index-{suite}")
        try:
            with exclusive(place, progress):
                # Another run may have done it while this one waited.
                if _load(cache, suite, max_age=_FRESH_SECONDS) is None:
                    progress(f"reading Debian's index of {suite}")
                    _refresh(cache, suite, place)
        except (KernelError, HostError) as error:
            return error
        return None

    with ThreadPoolExecutor(min(_AT_ONCE, len(stale))) as pool:
        failures = {
            suite: error for suite, error in zip(stale, pool.map(refresh, stale), strict=True) if error
        }
    usable = {suite: index for suite in wanted if (index := _load(cache, suite)) is not None}
    if not usable:
        raise next(iter(failures.values()))
    for suite, failure in failures.items():
        use = f"using that of {_date(cache, suite)}" if suite in usable else "going on without it"
        progress(f"{failure.message}; {use}")
    return usable


def choose(spec: DebianSpec, indexes: Mapping[str, Index]) -> Kernel:
    """The kernel a spec stands for.

    :raises KernelError: none fits; the message names the nearest ones.
    """
    kernels = [kernel for index in indexes.values() for kernel in index.kernels]
    if spec.suite is not None:
        found = [kernel for kernel in kernels if kernel.release == indexes[spec.suite].newest]
    elif spec.series is not None:
        found = [kernel for kernel in kernels if kernel.series == spec.series and kernel.cloud]
    else:
        found = [kernel for kernel in kernels if kernel.release == spec.release]
    if found:
        return max(found, key=_age)
    if spec.suite is not None:
        raise KernelError(f"kernel {spec.text!r}: that suite has no cloud kernel at present; name a series")
    near = ", ".join(f"debian:{name}" for name in _nearest(spec, kernels))
    raise KernelError(f"kernel {spec.text!r}: not in Debian's archive; nearest are {near or 'none'}")


def parse(stanzas: Iterable[str], *, suite: str) -> Index:
    """Read the kernels out of package stanzas.

    :param stanzas: Lines of one or more ``Packages`` files.
    """
    from debian.deb822 import Packages

    images: dict[tuple[str, str], str] = {}
    headers: set[tuple[str, str]] = set()
    newest: list[tuple[str, str]] = []
    for stanza in Packages.iter_paragraphs(stanzas, use_apt_pkg=False):
        name, version = stanza["Package"], stanza["Version"]
        if name == _NEWEST_CLOUD:
            newest.extend((version, release) for release in _releases(stanza.get("Depends", "")))
        elif name.startswith("linux-headers-"):
            headers.add((name.removeprefix("linux-headers-"), version))
        elif any(True for _ in _releases(stanza.get("Depends", ""))):
            # linux-image-6.12-cloud-amd64 stands for the newest 6.12.
            continue
        elif match := _IMAGE.fullmatch(name):
            key = (match["release"], version)
            binary = name.startswith("linux-binary-")
            unsigned = bool(match["mark"] or match["unsigned"])
            # From 6.19 on linux-image-X still exists, empty, and depends on linux-binary-X.
            if key not in images or (binary, not unsigned) > _rank(images[key]):
                images[key] = name
    kernels = [
        Kernel(release, version, suite, image, headers=(release, version) in headers)
        for (release, version), image in images.items()
    ]
    return Index(
        newest=max(newest, key=lambda pair: _version_key(pair[0]))[1] if newest else None,
        kernels=tuple(kernels),
    )


def _rank(image: str) -> tuple[bool, bool]:
    return image.startswith("linux-binary-"), "unsigned" not in image


def _releases(depends: str) -> Iterator[str]:
    for match in re.finditer(rf"\blinux-image-({_RELEASE})", depends):
        yield match[1]


def _age(kernel: Kernel) -> Version:
    return _version_key(kernel.version)


def _version_key(version: str) -> Version:
    from debian.debian_support import Version

    return Version(version)


def _nearest(spec: DebianSpec, kernels: list[Kernel], *, each_way: int = 3) -> list[str]:
    """What to write instead, as names after ``debian:``: the next older ones and the next newer ones."""
    if spec.suite is not None:
        return []
    if spec.series is not None:
        wanted, names = spec.series, {kernel.series for kernel in kernels if kernel.cloud}
    else:
        assert spec.release is not None
        wanted, flavour = spec.release, _flavour(spec.release)
        names = {kernel.release for kernel in kernels if _flavour(kernel.release) == flavour}
    in_order = sorted(names, key=_version_key)
    at = bisect(in_order, _version_key(wanted), key=_version_key)
    return in_order[max(0, at - each_way) : at + each_way]


def _series(version: str) -> str:
    # 7.3~rc7-1~exp1 is of 7.3.
    found = re.match(r"[0-9]+\.[0-9]+", version)
    return found[0] if found else version


def _flavour(release: str) -> str:
    match = re.search(r"-((?:cloud-|rt-)?amd64)$", release)
    return match[1] if match else ""


def _path(cache: Path, suite: str) -> Path:
    # The format in the name: two versions of this package may share a cache.
    return cache / "index" / f"{suite}.{_FORMAT}.json"


def _load(cache: Path, suite: str, *, max_age: float | None = None) -> Index | None:
    """The index kept on disk; None when there is none, it is damaged or older than ``max_age`` seconds."""
    try:
        stored = json.loads(_path(cache, suite).read_bytes())
        # A clock set back must not make an index fresh for ever.
        age = time.time() - stored["fetched"]
        kernels = tuple(Kernel(**kernel) for kernel in stored["kernels"])
        index = Index(newest=stored["newest"], kernels=kernels)
    except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return index if max_age is None or 0 <= age < max_age else None


def _date(cache: Path, suite: str) -> str:
    fetched = json.loads(_path(cache, suite).read_bytes())["fetched"]
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(fetched))


def _refresh(cache: Path, suite: str, place: Path) -> None:
    """Fetch the index of a suite and keep it. The caller holds the lock of ``place``."""
    with scratch(place) as folder:
        root = folder / "root"
        sources = sources_of(suite)
        unpack(sources, root, hook=_DUMP, what=f"Debian's index of {suite}", cache=cache)
        files = [root / "kernels" / release for release in sources.releases()]
        text = "".join(file.read_text() for file in files if file.exists())
        index = parse(text.splitlines(keepends=True), suite=suite)
        stored = {
            "fetched": time.time(),
            "newest": index.newest,
            "kernels": [asdict(kernel) for kernel in index.kernels],
        }
        partial = folder / "index.json"
        partial.write_text(json.dumps(stored, indent=1))
        flush(folder)
        _path(cache, suite).parent.mkdir(exist_ok=True)
        partial.replace(_path(cache, suite))
