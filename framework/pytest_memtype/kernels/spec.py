"""The specs that a user may write after ``--kernel``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pytest_memtype.errors import UsageError
from pytest_memtype.host.files import named_path
from pytest_memtype.host.nearest import did_you_mean, unknown

SUITES = (
    "bullseye",
    "bookworm",
    "bookworm-backports",
    "trixie",
    "trixie-backports",
    "forky",
    "sid",
    "experimental",
)
"""The Debian suites kernels are taken from, oldest first."""

_SERIES = re.compile(r"[0-9]+\.[0-9]+")
# experimental's first of a series has no third number: 7.3-cloud-amd64.
RELEASE = re.compile(r"[0-9]+\.[0-9]+[0-9a-z.+~-]*-(?:cloud-|rt-)?amd64")
"""The form of a release of Debian's kernels, as ``uname -r`` prints it."""

_KNOWN = (
    "debian:SUITE, debian:6.1 (a series), debian:6.1.0-50-cloud-amd64 (a release), tree:PATH, "
    "image:BZIMAGE,build=PATH, host and set:NAME"
)


@dataclass(frozen=True)
class DebianSpec:
    """A kernel out of Debian's archive; exactly one of ``suite``, ``series`` and ``release`` is given.

    :param text: The spec as the user wrote it.
    :param suite: The newest cloud kernel of this suite, security and updates included.
    :param series: The newest cloud kernel of this upstream series ("6.1") over all known suites.
    :param release: The kernel of this very release, as ``uname -r`` names it.
    """

    text: str
    suite: str | None = None
    series: str | None = None
    release: str | None = None


@dataclass(frozen=True)
class BuildSpec:
    """A kernel that was built on this host.

    :param text: The spec as the user wrote it.
    :param image: The bzImage.
    :param build: The folder that it was built in, or the headers of such a folder: where modules are built.
    """

    text: str
    image: Path
    build: Path


@dataclass(frozen=True)
class HostSpec:
    """The kernel that this host runs.

    :param text: The spec as the user wrote it, "host".
    """

    text: str


Spec = DebianSpec | BuildSpec | HostSpec


def parse(text: str) -> Spec:
    """Read the spec of one kernel.

    :param text: The spec as the user wrote it.
    :raises UsageError: the text names no kernel that this version can find.
    """
    kind, colon, name = text.partition(":")
    if text == "host":
        return HostSpec(text)
    if kind == "tree" and name:
        tree = named_path(name, what="the tree")
        return BuildSpec(text, image=tree / "arch" / "x86" / "boot" / "bzImage", build=tree)
    if kind == "image" and colon:
        image, _, build = name.partition(",build=")
        if not image or not build:
            raise UsageError(f"kernel {text!r}: write image:BZIMAGE,build=PATH, the folder it was built in")
        return BuildSpec(
            text, image=named_path(image, what="the image"), build=named_path(build, what="the folder")
        )
    if kind == "set" and colon:
        raise UsageError(f"kernel {text!r}: a set stands for several kernels, and one is wanted here")
    if kind != "debian" or not colon:
        near = did_you_mean(text, (*(f"debian:{suite}" for suite in SUITES), "host", "tree:", "image:"))
        raise UsageError(f"kernel {text!r}: no such kind of kernel{near or ';'} known are {_KNOWN}")
    return _debian(text, name)


def _debian(text: str, name: str) -> DebianSpec:
    if name in SUITES:
        return DebianSpec(text, suite=name)
    if _SERIES.fullmatch(name):
        return DebianSpec(text, series=name)
    if RELEASE.fullmatch(name):
        return DebianSpec(text, release=name)
    if name[:1].isdigit():
        raise UsageError(
            f"kernel {text!r}: write a series such as debian:6.1 or a whole release such as "
            "debian:6.1.0-50-cloud-amd64 (as uname -r prints it)"
        )
    raise UsageError(f"kernel {text!r}: no such Debian suite{unknown(name, SUITES)}")
