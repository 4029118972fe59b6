"""Running mmdebstrap, and saying in one line why it failed.

``--variant=extract --mode=chrootless`` unpacks packages without root and
without running their maintainer scripts; apt checks every signature and hash.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from pytest_memtype.errors import HostError, KernelError
from pytest_memtype.kernels.sources import AptSources
from pytest_memtype.store import disk_full

# apt gives up on a silent mirror by itself; this bounds a mirror that trickles.
_LIMIT_SECONDS = 1800
_END_SECONDS = 10
_DETAIL_LINES = 12
_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*")

# (What apt, dpkg or tar prints, what it means and what to do), the most telling first.
_CAUSES = (
    (
        r"Could not resolve|Temporary failure resolving|Could not connect|Network is unreachable"
        r"|Connection (?:timed out|refused|failed)|Unable to connect|Cannot initiate the connection",
        "the Debian mirror can't be reached; check the network, and apt's or http_proxy's proxy",
    ),
    (
        r"Hash Sum mismatch|unexpected size|Connection closed prematurely|unexpected end of file"
        r"|is not a Debian format archive",
        "a package arrived cut short or altered; try again, and check the proxy if it persists",
    ),
    (
        r"is expired|is not valid yet",
        "the mirror's index is out of date by this host's clock; check the clock, or the mirror",
    ),
    (
        r"NO_PUBKEY|GPG error|is not signed|couldn't be verified|BADSIG|EXPKEYSIG",
        "the archive's signature can't be verified; install debian-archive-keyring, the newest one",
    ),
    (
        r"does not have a Release file|404 +Not Found",
        "the mirror doesn't carry this suite, or has just dropped this package; try another",
    ),
    (
        r"Unable to locate package|Version '.*' for '.*' was not found"
        r"|has no installation candidate|unmet dependencies",
        "the mirror doesn't have all the packages; try again later, or another release",
    ),
)
_DISK_FULL = r"No space left on device|enough free space|Disk quota exceeded"


def unpack(
    sources: AptSources, target: Path, *, packages: Sequence[str] = (), hook: str, what: str, cache: Path
) -> None:
    """Unpack ``packages`` of a suite, and all they depend on, into ``target``.

    :param target: Made by the call; a failure may leave it half full.
    :param hook: Shell lines run at the end with ``$1`` the target and apt set up for its sources.
    :param what: What is being got, for the message of an error.
    :raises KernelError: the mirror or a package failed.
    :raises HostError: there is no mmdebstrap, or the disk is full.
    """
    command = ["mmdebstrap", "--variant=extract", "--mode=chrootless", "--skip=check/chrootless"]
    if packages:
        command.append(f"--include={','.join(packages)}")
    preamble = 'set -eu; export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"'
    command.append(f"--extract-hook={preamble}\n{hook}")
    status, output = _run([*command, *sources.arguments(target)], what=what)
    if status != 0:
        raise failure(output, what=what, cache=cache)


def install(
    sources: AptSources,
    tarball: Path,
    *,
    packages: Sequence[str],
    hooks: Sequence[str],
    what: str,
    cache: Path,
) -> None:
    """Install ``packages`` and a minimal system around them, and write it to ``tarball``.

    Without root this takes a user namespace, in which maintainer scripts are root.

    :param hooks: mmdebstrap's ``--customize-hook``, in order.
    :raises KernelError: the mirror or a package failed.
    :raises HostError: there is no mmdebstrap or no user namespace, or the disk is full.
    """
    problem = None if os.geteuid() == 0 else namespace_problem()
    if problem is not None:
        raise HostError(f"{what} can't be built by this user: {problem}; or build it once as root")
    mode = "root" if os.geteuid() == 0 else "unshare"
    command = ["mmdebstrap", "--variant=minbase", f"--mode={mode}", "--format=tar"]
    command.append(f"--include={','.join(packages)}")
    command += [f"--customize-hook={hook}" for hook in hooks]
    # Nobody reads them in a guest.
    command += [f"--dpkgopt=path-exclude={path}" for path in _LEFT_OUT]
    status, output = _run([*command, *sources.arguments(tarball)], what=what)
    if status != 0:
        raise failure(output, what=what, cache=cache)


def namespace_problem() -> str | None:
    """Why this user can't be root in a namespace of his own, and what to do; None when he can."""
    if shutil.which("newuidmap") is None:
        return "newuidmap is missing; install the package uidmap"
    name = pwd.getpwuid(os.geteuid()).pw_name
    for file in (Path("/etc/subuid"), Path("/etc/subgid")):
        lines = file.read_text().splitlines() if file.exists() else []
        if not any(line.split(":")[0] in (name, str(os.geteuid())) for line in lines):
            return f"{file} has no line for {name}; as root: usermod --add-subuids 100000-165535 " + (
                f"--add-subgids 100000-165535 {name}"
            )
    done = subprocess.run(
        ["unshare", "--user", "true"], capture_output=True, text=True, timeout=_END_SECONDS, check=False
    )
    if done.returncode != 0:
        return f"user namespaces are not allowed ({done.stderr.strip()}); allow them"
    return None


_running: set[subprocess.Popen[str]] = set()


def interrupt() -> None:
    """End every mmdebstrap of this process; whoever waits for one is told that it failed."""
    for process in tuple(_running):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)


def _run(command: list[str], *, what: str) -> tuple[int, str]:
    """Exit status and output of a mmdebstrap that can't outlive this process."""
    for program in ("mmdebstrap", "setpriv"):
        if shutil.which(program) is None:
            raise HostError(f"{program}: not installed; install the packages mmdebstrap and util-linux")
    process = subprocess.Popen(
        # The signal makes mmdebstrap stop writing to the cache when this process is killed.
        ["setpriv", "--pdeathsig", "TERM", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        # The causes above are told by apt's English messages.
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        start_new_session=True,
    )
    _running.add(process)
    try:
        output, _ = process.communicate(timeout=_LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        raise KernelError(
            f"{what}: mmdebstrap was not done in {_LIMIT_SECONDS // 60} minutes; check the network"
        ) from None
    finally:
        _running.discard(process)
        _end(process)
    return process.returncode, output


def _end(process: subprocess.Popen[str]) -> None:
    """End mmdebstrap and its children, if an exception came before their end."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        os.killpg(process.pid, number)
        try:
            process.communicate(timeout=_END_SECONDS)
        except subprocess.TimeoutExpired:
            continue


def failure(output: str, *, what: str, cache: Path) -> KernelError | HostError:
    """Why mmdebstrap failed, by what it and apt printed."""
    details = tuple(line for line in output.splitlines() if line.strip())[-_DETAIL_LINES:]
    if re.search(_DISK_FULL, output):
        return HostError(disk_full(cache).message, details=details)
    for pattern, cause in _CAUSES:
        if re.search(pattern, output):
            return KernelError(f"{what}: {cause}", details=details)
    return KernelError(f"{what}: mmdebstrap failed; its last lines follow", details=details)
