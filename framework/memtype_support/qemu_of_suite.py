"""The QEMUs of Debian's suites, unpacked, and run on this host with their own libraries."""

from __future__ import annotations

import os
import re
import shlex
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Final

from pytest_memtype.errors import HostError, KernelError
from pytest_memtype.host.cached_folders import SUITE_QEMUS
from pytest_memtype.host.progress import silent
from pytest_memtype.host.resources import cache_directory
from pytest_memtype.host.store import build_dir, exclusive, require_space, staged
from pytest_memtype.kernels.kept_indexes import age_text
from pytest_memtype.kernels.mmdebstrap import unpack
from pytest_memtype.kernels.sources import sources_of
from pytest_memtype.machine.qemu_versions import QEMU

#: Oldest first.
SUITES: Final = ("bookworm", "bookworm-backports", "trixie", "trixie-backports", "sid")

_PACKAGE: Final = "qemu-system-x86"
# What apt knows: "qemu-system-x86 | 1:10.0.13+ds-0+deb13u1 | http://... trixie/main amd64 Packages".
_MADISON: Final = re.compile(r"\S+ +\| +(?P<version>(?:\d+:)?(?P<series>\d+\.\d+)\S*) +\|")
_HOOK: Final = """
apt-cache madison {package} >"$1/madison"
apt-cache policy {package} >"$1/policy"
cd "$1"
# Packages up to Debian 12 have files outside /usr, which an installed system has merged.
for folder in lib lib64; do
    [ -d "$folder" ] && [ ! -h "$folder" ] || continue
    mkdir -p "usr/$folder"
    cp -a "$folder/." "usr/$folder/"
done
rm -rf usr/share/doc usr/share/info usr/share/locale usr/share/man var/cache/apt var/lib/apt usr/share/icons
"""
# As long as Debian takes for a release: tests shall meet new ones, and not wait for a mirror each time.
_FRESH_SECONDS: Final = 7 * 24 * 3600
_NEEDED_BYTES: Final = 2 << 30

# bubblewrap would stay between us and QEMU as a process of its own, whose memory, death and number we would
# see. Debian's libraries, programs and data are all below /usr, so one mount brings in another suite's.
_WRAPPER: Final = """#!/bin/sh
exec {unshare} setpriv --pdeathsig KILL -- \\
    sh -c 'mount --bind {usr} /usr && exec /usr/bin/{qemu} "$@"' {qemu} "$@"
"""


def series_of(suite: str) -> str | None:
    """The series of a suite's QEMU, ``10.0``.

    :param suite: One of :data:`SUITES`.
    :return: None where backports have none of another series than their suite.
    :raises KernelError: the mirror can't say.
    """
    base = suite.removesuffix("-backports")
    own = _installed(_kit(base))
    if base == suite:
        return own
    # Its lists have the backports' packages too, the newest first.
    listed = (_MADISON.match(line) for line in (_kit(base) / "madison").read_text().splitlines())
    return next((match["series"] for match in filter(None, listed) if match["series"] != own), None)


def namespace() -> tuple[str, ...]:
    """The command that makes the mount namespace which a suite's QEMU runs in."""
    user = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    return "unshare", "--mount", "--propagation", "private", *user


def program_of(suite: str) -> Path:
    """A folder, to be put first on the PATH, with a program of QEMU's name that is the suite's QEMU.

    :raises KernelError: the mirror doesn't have it.
    """
    kit = _kit(suite)
    folder = kit / "wrapped"
    folder.mkdir(exist_ok=True)
    text = _WRAPPER.format(unshare=shlex.join(namespace()), usr=shlex.quote(str(kit / "usr")), qemu=QEMU)
    program = folder / QEMU
    # Its time tells it from another QEMU.
    if not program.exists() or program.read_text() != text:
        program.write_text(text)
        program.chmod(0o755)
    return folder


def _kit(suite: str) -> Path:
    """A folder with the suite's QEMU and all that it needs, at most a week old where that can be had.

    :raises Unreachable: there is none, and the mirror can't be reached or may not be asked.
    :raises KernelError: there is none, and the mirror doesn't have it.
    """
    cache = cache_directory()
    final = cache / SUITE_QEMUS / suite
    place = build_dir(cache, f"suite-qemu-{suite}")
    with exclusive(place, silent):
        age = time.time() - final.stat().st_mtime if final.is_dir() else None
        if age is not None and 0 <= age < _FRESH_SECONDS:
            return final
        try:
            _fetch(suite, final, cache=cache, place=place, impatient=age is not None)
        except (KernelError, HostError) as error:
            if age is None:
                raise
            # Of a test that passes nobody sees what it prints.
            warnings.warn(f"QEMU of {suite} is {age_text(age)}: {error.message}", stacklevel=2)
    return final


def _fetch(suite: str, final: Path, *, cache: Path, place: Path, impatient: bool) -> None:
    """Unpack the suite's QEMU into the place of what is there."""
    require_space(cache, _NEEDED_BYTES)
    sources = sources_of(suite if suite.endswith("-backports") or suite == "sid" else f"{suite}-backports")
    if suite.endswith("-backports"):
        default = f'APT::Default-Release "{suite}";'
        sources = replace(sources, options=(*sources.options, default))
    with staged(final, cache=place) as kit:
        hook = _HOOK.format(package=_PACKAGE)
        what = f"QEMU of {suite}"
        unpack(sources, kit, packages=[_PACKAGE], hook=hook, what=what, cache=cache, impatient=impatient)
        if final.is_dir():
            final.rename(kit.with_name("old"))
    os.utime(final)


def _installed(kit: Path) -> str:
    """The series of what apt takes when nobody names a version."""
    match = re.search(r"^ *Candidate: (?:\d+:)?(\d+\.\d+)", (kit / "policy").read_text(), re.MULTILINE)
    assert match is not None, "apt has no QEMU for this suite"
    return match[1]
