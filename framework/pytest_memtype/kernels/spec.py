"""What a user may write after ``--kernel``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pytest_memtype.errors import UsageError

SUITES = ("bullseye", "bookworm", "bookworm-backports", "trixie", "trixie-backports", "forky", "sid")
"""The Debian suites kernels are taken from, oldest first."""

_SERIES = re.compile(r"[0-9]+\.[0-9]+")
_RELEASE = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+[0-9a-z.+~-]*-(?:cloud-|rt-)?amd64")
_PLANNED = ("tree:", "image:", "host", "set:")
_KNOWN = "debian:SUITE, debian:6.1 (a series), debian:6.1.0-50-cloud-amd64 (a release)"


@dataclass(frozen=True)
class DebianSpec:
    """A kernel out of Debian's archive; exactly one of the last three is given.

    :param text: What the user wrote.
    :param suite: Newest cloud kernel of this suite, security and updates included.
    :param series: Newest cloud kernel of this upstream series ("6.1") over all known suites.
    :param release: This very kernel, as ``uname -r`` names it.
    """

    text: str
    suite: str | None = None
    series: str | None = None
    release: str | None = None


def parse(text: str) -> DebianSpec:
    """Read a kernel spec.

    :raises UsageError: the text names no kernel this version knows how to find.
    """
    kind, colon, name = text.partition(":")
    if kind != "debian" or not colon:
        if text.startswith(_PLANNED):
            raise UsageError(f"kernel {text!r}: this kind can't be used yet; known are {_KNOWN}")
        raise UsageError(f"kernel {text!r}: no such kind of kernel; known are {_KNOWN}")
    if name in SUITES:
        return DebianSpec(text, suite=name)
    if _SERIES.fullmatch(name):
        return DebianSpec(text, series=name)
    if _RELEASE.fullmatch(name):
        return DebianSpec(text, release=name)
    if name[:1].isdigit():
        raise UsageError(
            f"kernel {text!r}: write a series such as debian:6.1 or a whole release such as "
            "debian:6.1.0-50-cloud-amd64 (as uname -r prints it)"
        )
    raise UsageError(f"kernel {text!r}: no such Debian suite; known are {', '.join(SUITES)}")
