"""The kernels that a suite has, by apt's own index of it, and which of them a spec stands for."""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pytest_memtype.errors import KernelError
from pytest_memtype.kernels.spec import SUITES, DebianSpec

# A warm start reads JSON only; python-debian is slow to load.
if TYPE_CHECKING:
    from debian.debian_support import Version

ARCHIVE: Final = "Debian's archive"
"""Where kernels are looked for, in an error's message."""

# experimental's first of a series has no third number: 7.3-cloud-amd64.
_RELEASE = r"[0-9]+\.[0-9]+[0-9a-z.+~-]*-(?:cloud-|rt-)?amd64"
# From 6.19 on the image is in linux-binary-X; before, linux-image-X. The signed one has the plain name.
_IMAGE = re.compile(
    rf"linux-(?:image|binary)-(?P<mark>unsigned-)?(?P<release>{_RELEASE})(?P<unsigned>-unsigned)?"
)
_NEWEST_CLOUD = "linux-image-cloud-amd64"
_CLOUD = "-cloud-amd64"


@dataclass(frozen=True)
class Kernel:
    """A kernel in Debian's archive.

    :param release: The release as ``uname -r`` prints it, "6.1.0-56-cloud-amd64".
    :param version: Version of its packages, "6.1.192-2".
    :param suite: The suite whose sources have it, "bookworm".
    :param image: Name of the package that holds the bootable image.
    :param headers: Whether its headers are still there. Without them no module can be built for it: mirrors
        drop the headers of old backports, but keep their images.
    """

    release: str
    version: str
    suite: str
    image: str
    headers: bool = True

    @property
    def series(self) -> str:
        """The upstream series of the kernel, "6.1"."""
        return _series(self.version)

    @property
    def cloud(self) -> bool:
        """Whether it is a cloud kernel, the flavour that is tested unless a user names another."""
        return self.release.endswith(_CLOUD)

    @property
    def signed(self) -> bool:
        """Whether Debian has signed the image for Secure Boot, which it does some days after a build."""
        return "unsigned" not in self.image


@dataclass(frozen=True)
class Index:
    """The kernels of a suite, as its index lists them.

    :param newest: Release of the kernel that the suite's own ``linux-image-cloud-amd64`` stands for; None
        without one. A suite may hold newer ones: bookworm-security carries trixie's 6.12 besides its own 6.1.
    :param kernels: The kernels, in no order.
    """

    newest: str | None
    kernels: tuple[Kernel, ...]


def suites_of(spec: DebianSpec) -> tuple[str, ...]:
    """The suites whose indexes tell which kernel a spec stands for."""
    return SUITES if spec.suite is None else (spec.suite,)


def in_order(kernels: Iterable[Kernel]) -> list[Kernel]:
    """The kernels by the version of their packages, the oldest first."""
    return sorted(kernels, key=_age)


def newest_of_each_series(kernels: Iterable[Kernel]) -> list[Kernel]:
    """The newest kernel of each upstream series, the oldest first."""
    last = {kernel.series: kernel for kernel in sorted(kernels, key=_age)}
    return sorted(last.values(), key=_age)


def newest(kernels: Iterable[Kernel]) -> Kernel:
    """The kernel of the newest package; of equals the first."""
    first, *others = kernels
    # python-debian is slow to load, and nearly always there is one.
    return max((first, *others), key=_age) if others else first


def meanings(found: Mapping[str, Index]) -> dict[Kernel, list[str]]:
    """The specs that stand for each kernel, beside its release: ``debian:bookworm``, ``debian:6.1``."""
    suites = [DebianSpec(f"debian:{suite}", suite=suite) for suite, index in found.items() if index.newest]
    names = dict.fromkeys(
        kernel.series for index in found.values() for kernel in index.kernels if kernel.cloud
    )
    specs = [*suites, *(DebianSpec(f"debian:{name}", series=name) for name in names)]
    meant: dict[Kernel, list[str]] = {}
    for spec in specs:
        with suppress(KernelError):
            meant.setdefault(choose(spec, found), []).append(spec.text)
    return meant


def choose(spec: DebianSpec, indexes: Mapping[str, Index], *, where: str = ARCHIVE) -> Kernel:
    """The kernel that a spec stands for, among those of given indexes.

    :param spec: The spec of a kernel in Debian's archive.
    :param indexes: The indexes by suite; that of the spec's suite has to be among them.
    :param where: The name of the indexes in the message of an error.
    :raises KernelError: no kernel fits; the message names the nearest ones.
    """
    kernels = [kernel for index in indexes.values() for kernel in index.kernels]
    if spec.suite is not None:
        found = [kernel for kernel in kernels if kernel.release == indexes[spec.suite].newest]
    elif spec.series is not None:
        found = [kernel for kernel in kernels if kernel.series == spec.series and kernel.cloud]
    else:
        found = [kernel for kernel in kernels if kernel.release == spec.release]
    if found:
        return newest(found)
    if spec.suite is not None:
        raise KernelError(f"kernel {spec.text!r}: that suite has no cloud kernel at present; name a series")
    near = ", ".join(f"debian:{name}" for name in _nearest(spec, kernels))
    raise KernelError(f"kernel {spec.text!r}: not in {where}; nearest are {near or 'none'}")


def parse(stanzas: Iterable[str], *, suite: str) -> Index:
    """Read the kernels out of package stanzas.

    :param stanzas: Lines of one or more ``Packages`` files.
    :param suite: The suite that the kernels are of.
    """
    from debian.deb822 import Packages

    images: dict[tuple[str, str], str] = {}
    headers: set[tuple[str, str]] = set()
    own: list[tuple[str, str]] = []
    for stanza in Packages.iter_paragraphs(stanzas, use_apt_pkg=False):
        name, version = stanza["Package"], stanza["Version"]
        if name == _NEWEST_CLOUD:
            own.extend((version, release) for release in _releases(stanza.get("Depends", "")))
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
        newest=max(own, key=lambda pair: _version_key(pair[0]))[1] if own else None,
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
    """The nearest names that exist, to be written after ``debian:``: the next older and next newer ones."""
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
