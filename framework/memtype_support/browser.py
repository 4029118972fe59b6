"""Debian's Chromium, for the tests of the report's pages: this host's, or unpacked into the cache."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Final

from memtype_support.kernel_scripts import LeftOutError
from memtype_support.qemu_of_suite import namespace
from pytest_memtype.errors import MemtypeError
from pytest_memtype.host.cached_folders import BROWSERS
from pytest_memtype.host.progress import silent
from pytest_memtype.host.resources import cache_directory
from pytest_memtype.host.store import made_once, require_space, seal, staged
from pytest_memtype.kernels.mmdebstrap import require_network, unpack
from pytest_memtype.kernels.sources import sources_of

NAMED: Final = "MEMTYPE_CHROMIUM"
"""The variable of the environment that names another Chromium."""

#: A stable suite, which has the package without windows since a point release of 2025.
_SUITE: Final = "trixie"
_PACKAGES: Final = ("chromium-headless-shell", "fonts-dejavu-core")
_PROGRAM: Final = Path("usr/lib/chromium/chromium-headless-shell")
_NEEDED_BYTES: Final = 1 << 30
# Mesa and LLVM, half of all, draw on graphics cards.
_HOOK: Final = """
cd "$1"
rm -rf usr/share/doc usr/share/info usr/share/locale usr/share/man usr/share/icons var/cache/apt var/lib/apt
rm -rf usr/lib/x86_64-linux-gnu/libLLVM* usr/lib/x86_64-linux-gnu/libgallium* usr/lib/x86_64-linux-gnu/dri
"""
# As for QEMUs of other suites: all that it needs is below /usr, so one mount brings it in.
_WRAPPER: Final = """#!/bin/sh
exec {unshare} setpriv --pdeathsig KILL -- \\
    sh -c 'mount --bind {kit}/usr /usr && FONTCONFIG_PATH={kit}/etc/fonts exec /{program} "$@"' chromium "$@"
"""


def chromium() -> Path:
    """A program that is Debian's Chromium, to be started by playwright.

    :raises LeftOutError: it can't be had or run here; the message says why.
    """
    named = os.environ.get(NAMED)
    if named:
        return Path(named)
    # Ubuntu's program of that name starts a snap, which reads no file below /tmp.
    if Path("/usr/lib/chromium").is_dir():
        for name in ("chromium-headless-shell", "chromium"):
            found = shutil.which(name)
            if found is not None:
                return Path(found)
    return _unpacked()


def _unpacked() -> Path:
    probe = [*namespace(), "mount", "--bind", "/usr", "/usr"]
    done = subprocess.run(probe, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LeftOutError(f"Chromium of {_SUITE} needs a mount namespace: {done.stderr.strip()}")
    try:
        cache = cache_directory()
        kit = cache / BROWSERS / f"chromium-{_SUITE}"

        def make(place: Path) -> None:
            require_network("Chromium", cache=cache)
            require_space(cache, _NEEDED_BYTES)
            with staged(kit, cache=place) as target:
                unpack(
                    sources_of(_SUITE), target, packages=_PACKAGES, hook=_HOOK, what="Chromium", cache=cache
                )
                text = _WRAPPER.format(
                    unshare=shlex.join(namespace()), kit=shlex.quote(str(kit)), program=_PROGRAM
                )
                # Everybody may write to it, and here nobody does.
                shutil.rmtree(target / "tmp")
                wrapper = target / "chromium"
                wrapper.write_text(text)
                wrapper.chmod(0o755)
                seal(target)

        made_once(kit, make, cache=cache, work=kit.name, progress=silent)
    except MemtypeError as error:
        raise LeftOutError(f"Chromium can't be had: {error.message}") from error
    return kit / "chromium"
