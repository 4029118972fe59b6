"""The apt sources that a suite is read from. They are always the host's or mmdebstrap's own."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pytest_memtype.errors import HostError

_BACKPORTS = "-backports"
# Has little more than what sid lacks.
_EXPERIMENTAL = "experimental"
# The Origin of its Release files.
_DEBIAN = "Debian"
_POCKETS = ("", "-updates", "-security")
_KEYRINGS = (
    Path("/usr/share/keyrings/debian-archive-keyring.pgp"),
    Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
)
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
# Any method but http and https, such as file: and mirror+file:, and names of this host itself.
_HERE = re.compile(r"(?:^|\s)(?!https?://)[a-z][a-z0-9+]*:/|//(?:[^/@\s]*@)?(?:localhost\b|127\.|\[::1\])")
_APT = Path("/etc/apt")
# A second is usual where apt keeps no cache.
_LIMIT_SECONDS = 60
_SOURCE_FILES = ("sources.list", "sources.list.d/*.list", "sources.list.d/*.sources")
# How the host reaches its mirrors; mmdebstrap's apt doesn't read the host's apt.conf by itself.
_CARRIED_OPTIONS = (
    "Acquire::http::Proxy",
    "Acquire::https::Proxy",
    "Acquire::http::Proxy-Auto-Detect",
    "Acquire::https::Proxy-Auto-Detect",
    "Acquire::Check-Valid-Until",
    "Acquire::Check-Date",
)


@dataclass(frozen=True)
class Archive:
    """An archive that the host's apt reads, or could read from the same mirror.

    :param uri: The address of the mirror.
    :param release: The name that the archive has in the host's line, which may be "stable".
    """

    uri: str
    release: str


@dataclass(frozen=True)
class AptSources:
    """The arguments that point mmdebstrap at one suite.

    :param suite: The suite that was asked for, "trixie-backports".
    :param base: The suite that it extends, "trixie"; the same as ``suite`` for a full suite.
    :param archives: The host's own archives for it, by code name. None of them leaves it to mmdebstrap.
    :param keyring: The file of the keys that the archives are signed by; None for those that apt trusts.
    :param options: Lines of apt.conf.
    """

    suite: str
    base: str
    archives: Mapping[str, Archive] = field(default_factory=dict)
    keyring: Path | None = None
    options: tuple[str, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """The archives in sources.list form."""
        trust = f" [signed-by={self.keyring}]" if self.keyring else ""
        return tuple(f"deb{trust} {each.uri} {each.release} main" for each in self.archives.values())

    def releases(self) -> tuple[str, ...]:
        """The names, as apt has them, of the archives whose kernels count as this suite's."""
        names = [self.suite + pocket for pocket in _POCKETS]
        return tuple(self.archives[name].release if name in self.archives else name for name in names)

    def arguments(self, target: Path) -> list[str]:
        """The tail of a mmdebstrap command line: options, suite, target, mirrors."""
        arguments = [f"--aptopt={option}" for option in self.options]
        if self.base != self.suite and not self.lines:
            # mmdebstrap knows neither backports nor experimental. Its default for the base suite names
            # the same mirror.
            copy = f"s/ {self.base} main$/ {self.suite} main/p"
            file = '"$1/etc/apt/sources.list"'
            arguments.append(f"--setup-hook=lines=$(sed -n '{copy}' {file}) && echo \"$lines\" >> {file}")
        return [*arguments, self.base, str(target), *self.lines]


def mirrors_elsewhere() -> bool:
    """Whether all mirrors are on other machines, and reached without a proxy, which may be on this one.

    This reads apt's files itself: apt-get may take a second for it.
    """
    if any(name.lower() in _PROXIES for name in os.environ):
        return False
    if any("Proxy" in option for option in _host_options()):
        return False
    files = [file for pattern in _SOURCE_FILES for file in _APT.glob(pattern)]
    try:
        return not any(_HERE.search(file.read_text(errors="replace")) for file in files)
    except OSError:
        return False


def base_of(suite: str) -> str:
    """The suite that a suite extends; itself where it stands alone."""
    return "sid" if suite == _EXPERIMENTAL else suite.removesuffix(_BACKPORTS)


def sources_of(suite: str) -> AptSources:
    """The apt sources of a Debian suite on this host.

    :param suite: The name of the suite.
    :raises HostError: apt doesn't tell them in time.
    """
    base = base_of(suite)
    return AptSources(
        suite=suite,
        base=base,
        archives=_host_archives(suite, base),
        keyring=debian_keyring(),
        options=_host_options(),
    )


def _host_archives(suite: str, base: str) -> dict[str, Archive]:
    """The host's archives for ``suite``, or none when it doesn't have the base suite."""
    fields = ("REPO_URI", "RELEASE", "CODENAME", "COMPONENT", "ARCHITECTURE", "ORIGIN")
    listing = _once(
        "apt-get",
        "indextargets",
        "--format",
        "|".join(f"$({field})" for field in fields),
        "Created-By: Packages",
    )
    return archives_from_targets(listing, suite=suite, base=base)


def archives_from_targets(listing: str, *, suite: str, base: str) -> dict[str, Archive]:
    """Find a suite's archives in the output of ``apt-get indextargets``, by their code names.

    Archives of others may have Debian's code names, and their lines may come first. What says that it is
    Debian's own is preferred; a mirror may say something else.

    :param listing: Lines ``REPO_URI|RELEASE|CODENAME|COMPONENT|ARCHITECTURE|ORIGIN``.
    :param suite: The suite that is asked for.
    :param base: The suite that it extends; no archives without it.
    """
    wanted = {base + pocket for pocket in _POCKETS} | {suite}
    # A host may follow "stable"; the code name is what was asked for.
    found: dict[str, Archive] = {}
    targets = [line.split("|", 5) for line in listing.splitlines()]
    for uri, release, codename, component, architecture, _ in sorted(
        targets, key=lambda each: each[5] != _DEBIAN
    ):
        name = release if release in wanted else codename
        if (
            component == "main"
            and architecture == "amd64"
            and name in wanted
            and not uri.startswith("cdrom:")
        ):
            found.setdefault(name, Archive(uri, release))
    if base not in found:
        return {}
    if suite not in found:
        found[suite] = Archive(found[base].uri, suite)
    return found


def _host_options() -> tuple[str, ...]:
    dump = _output("apt-config", "dump", "--no-empty", "--format", "%F %v%n", *_CARRIED_OPTIONS)
    # Below a proxy stand the hosts that have another, or none: Acquire::http::Proxy::HOST "DIRECT".
    below = tuple(f"{name}::" for name in _CARRIED_OPTIONS)
    return tuple(
        f'{name} "{value}"'
        for name, _, value in (line.partition(" ") for line in dump.splitlines())
        if name in _CARRIED_OPTIONS or name.startswith(below)
    )


def debian_keyring() -> Path | None:
    """The file of Debian's keys on this host, or None."""
    return next((path for path in _KEYRINGS if path.exists()), None)


@functools.cache
def _once(*command: str) -> str:
    """The output of an apt query, once a process: it takes a second where apt keeps no cache (containers)."""
    return _output(*command)


def _output(*command: str) -> str:
    """The output of a quick apt query; empty on a host without apt, whose mirrors mmdebstrap picks."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            # An archive's Release file may have any bytes in its Origin.
            errors="replace",
            timeout=_LIMIT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise HostError(
            f"{' '.join(command[:2])}: not done in {_LIMIT_SECONDS} s; try again when the host is less busy"
        ) from None
    return done.stdout
