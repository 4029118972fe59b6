"""Runs of mmdebstrap, with one line that says why a run failed.

``--variant=extract --mode=chrootless`` unpacks packages without root and
without running their maintainer scripts; apt checks every signature and hash.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pytest_memtype.errors import HostError, KernelError, Unreachable
from pytest_memtype.host.child import describe_status, dying_with_us
from pytest_memtype.host.store import disk_full, interrupt_waiting
from pytest_memtype.kernels import mirror, route
from pytest_memtype.kernels.dropped import note_dropped
from pytest_memtype.kernels.sources import AptSources, mirrors_elsewhere

# The limit for a mirror that sends very slowly.
_LIMIT_SECONDS = 1800
# Until the first byte of the mirror: apt itself allows half a minute for each address and each try, and sets
# no limit for a name server that doesn't answer. Shorter where something older will do.
_PATIENCE_SECONDS = 60.0
_IMPATIENCE_SECONDS = 7.0
_LOOK_SECONDS = 0.1
_END_SECONDS = 10
# mmdebstrap and apt leave nothing that would be worth a longer wait.
_ABANDON_SECONDS = 1
_IMPATIENT_OPTIONS = (
    'Acquire::Retries "0"',
    'Acquire::http::Timeout "10"',
    'Acquire::https::Timeout "10"',
)
_LISTS = Path("var", "lib", "apt", "lists")
_SUBORDINATE = (Path("/etc/subuid"), Path("/etc/subgid"))
_DETAIL_LINES = 12
_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*")

_UNREACHABLE = (
    r"Could not resolve|Temporary failure resolving|Could not connect|Network is unreachable"
    r"|Connection (?:timed out|refused|failed)|Unable to connect|Cannot initiate the connection"
)
_DROPPED = (
    "the mirror doesn't have all the packages, or not any more; try again, which reads its index anew, or "
    "name another release"
)
# (What apt, dpkg or tar prints, what it means and what to do), the most telling first.
_CAUSES = (
    (
        _UNREACHABLE,
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
        _DROPPED,
    ),
)
_DISK_FULL = r"No space left on device|enough free space|Disk quota exceeded"


def require_network(what: str, *, cache: Path) -> None:
    """Check that a mirror may be asked and isn't known to be out of reach, which takes no time.

    :param what: The thing to fetch, as the beginning of a sentence.
    :param cache: The cache folder, for a note that the mirror is unreachable.
    :raises Unreachable: the mirror may not be asked, or is out of reach.
    """
    mirror.require(what)
    if not route.has_route() and mirrors_elsewhere():
        mirror.lost(cache)
        raise Unreachable(f"{what}: the Debian mirror can't be reached: this host has no network; connect it")


def nobody() -> None:
    """Ignore that the mirror answers."""


def unpack(
    sources: AptSources,
    target: Path,
    *,
    packages: Sequence[str] = (),
    hook: str,
    what: str,
    cache: Path,
    impatient: bool = False,
    on_contact: Callable[[], None] = nobody,
) -> None:
    """Unpack ``packages`` of a suite, and all they depend on, into ``target``.

    :param sources: The apt sources of the suite.
    :param target: The root folder that the call makes; a failure may leave it half full.
    :param packages: Names of packages, each with ``=VERSION`` if need be; none for the hook alone.
    :param hook: Shell lines run at the end with ``$1`` the target and apt set up for its sources.
    :param what: The thing to fetch, as the beginning of an error's message.
    :param cache: The cache folder, for a note that the mirror is unreachable.
    :param impatient: Give up on a mirror that doesn't answer within seconds: something older will do.
    :param on_contact: Called when the mirror has sent something.
    :raises Unreachable: the mirror sent nothing, or may not be asked.
    :raises KernelError: the mirror or a package failed.
    :raises HostError: mmdebstrap isn't installed, or the disk is full.
    """
    require_network(what, cache=cache)
    # mmdebstrap 1.4 and later refuse root outside a chroot, because the maintainer scripts would run on the
    # host. The variant extract runs none, and 1.3.5 knows the option as well.
    command = ["mmdebstrap", "--variant=extract", "--mode=chrootless", "--skip=check/chrootless"]
    if packages:
        command.append(f"--include={','.join(packages)}")
    if impatient:
        command += [f"--aptopt={option}" for option in _IMPATIENT_OPTIONS]
    preamble = 'set -eu; export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"'
    command.append(f"--extract-hook={preamble}\n{hook}")
    contact = False

    def heard() -> bool:
        nonlocal contact
        if not contact and _something_arrived(target):
            contact = True
            mirror.answered(cache)
            on_contact()
        return contact

    patience = _IMPATIENCE_SECONDS if impatient else _PATIENCE_SECONDS
    try:
        status, output = _run(
            [*command, *sources.arguments(target)], what=what, patience=patience, heard=heard
        )
    except Unreachable:
        mirror.lost(cache)
        raise
    if status != 0:
        error = failure(output, status=status, what=what, cache=cache)
        if not heard() and re.search(_UNREACHABLE, output):
            mirror.lost(cache)
            raise Unreachable(error.message, details=error.details)
        if _cause(output) == _DROPPED:
            note_dropped(sources.suite, cache=cache)
        raise error


def _something_arrived(target: Path) -> bool:
    """Whether apt has received a byte of an index: it writes its lists while they arrive, by any method."""
    for folder in (target / _LISTS / "partial", target / _LISTS):
        try:
            if any(
                path.is_file() and path.name != "lock" and path.stat().st_size for path in folder.iterdir()
            ):
                return True
        except OSError:  # Not made yet, or a file that has got its final name.
            continue
    return False


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

    :param sources: The apt sources of the suite.
    :param tarball: The path of the tar file to write.
    :param packages: Names of packages.
    :param hooks: Arguments of mmdebstrap's ``--customize-hook``, in order.
    :param what: The thing to build, as the beginning of an error's message.
    :param cache: The cache folder, for the message about a full disk.
    :raises Unreachable: the mirror may not be asked.
    :raises KernelError: the mirror or a package failed.
    :raises HostError: mmdebstrap isn't installed, user namespaces can't be used, or the disk is full.
    """
    mirror.require(what)
    problem = None if os.geteuid() == 0 else namespace_problem()
    if problem is not None:
        raise HostError(f"{what} can't be built by this user: {problem}; or build it once as root")
    mode = "root" if os.geteuid() == 0 else "unshare"
    command = ["mmdebstrap", "--variant=minbase", f"--mode={mode}", "--format=tar"]
    command.append(f"--include={','.join(packages)}")
    command += [f"--customize-hook={hook}" for hook in hooks]
    # A guest has no use for documentation.
    command += [f"--dpkgopt=path-exclude={path}" for path in _LEFT_OUT]
    status, output = _run([*command, *sources.arguments(tarball)], what=what)
    if status != 0:
        raise failure(output, status=status, what=what, cache=cache)


def namespace_problem() -> str | None:
    """The reason why this user can't be root in a user namespace, and what to do; None when that works."""
    if shutil.which("newuidmap") is None:
        return "newuidmap is missing; install the package uidmap"
    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        # As in a container that was started with a number that has no name there.
        return f"user {os.geteuid()} has no entry in /etc/passwd, which newuidmap asks for; add one"
    for file in _SUBORDINATE:
        lines = file.read_text().splitlines() if file.exists() else []
        if not any(line.split(":")[0] in (name, str(os.geteuid())) for line in lines):
            return f"{file} has no line for {name}; as root: usermod --add-subuids 100000-165535 " + (
                f"--add-subgids 100000-165535 {name}"
            )
    try:
        done = subprocess.run(
            ["unshare", "--user", "true"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_END_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"user namespaces can't be tried ({error}); install the package util-linux"
    if done.returncode != 0:
        return f"user namespaces are not allowed ({done.stderr.strip()}); allow them"
    return None


_running: set[subprocess.Popen[str]] = set()
_interrupted: set[subprocess.Popen[str]] = set()


def interrupt(by: signal.Signals = signal.SIGTERM) -> None:
    """End each mmdebstrap of this process and each wait for another run; their callers see a failure.

    :param by: The signal for each mmdebstrap and its children.
    """
    interrupt_waiting()
    for process in tuple(_running):
        if process.poll() is None:
            _interrupted.add(process)
            _signal(process, by)


def _signal(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Send a signal to mmdebstrap and its children, unless another thread has just seen its end."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _run(
    command: list[str], *, what: str, patience: float | None = None, heard: Callable[[], object] = nobody
) -> tuple[int, str]:
    """The exit status and output of an mmdebstrap that can't outlive this process.

    :param command: Program and arguments.
    :param what: The thing to fetch, as the beginning of an error's message.
    :param patience: Seconds that the mirror has to send something; None for as long as apt waits.
    :param heard: Called every 0.1 s while ``patience`` counts: returns whether the mirror has sent something.
    :raises KeyboardInterrupt: :func:`interrupt` has ended it.
    :raises Unreachable: the mirror has sent nothing in time, or others have found meanwhile that it can't be
        reached.
    """
    for program in ("mmdebstrap", "setpriv"):
        if shutil.which(program) is None:
            raise HostError(f"{program}: not installed; install the packages mmdebstrap and util-linux")
    start = time.monotonic()
    process = subprocess.Popen(
        # The signal makes mmdebstrap stop writing to the cache when this process is killed.
        [*dying_with_us(by="TERM"), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        # The causes above are recognised by apt's English messages.
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        start_new_session=True,
    )
    _running.add(process)
    patient = _END_SECONDS
    try:
        while True:
            waiting = patience is not None and not heard()
            left = start + _LIMIT_SECONDS - time.monotonic()
            try:
                output, _ = process.communicate(timeout=_LOOK_SECONDS if waiting else left)
                if process in _interrupted:
                    raise KeyboardInterrupt
                return process.returncode, output
            except subprocess.TimeoutExpired:
                if not waiting or left <= 0:
                    minutes = _LIMIT_SECONDS // 60
                    raise KernelError(
                        f"{what}: mmdebstrap was not done in {minutes} minutes; check the network"
                    ) from None
            gone = mirror.unasked()
            if gone is not None or (patience is not None and time.monotonic() - start > patience):
                patient = _ABANDON_SECONDS
                raise Unreachable(
                    f"{what}: {gone}"
                    if gone
                    else f"{what}: the Debian mirror can't be reached: it sent nothing in {patience:.0f} s; "
                    "check the network, and apt's or http_proxy's proxy"
                )
    finally:
        _running.discard(process)
        _interrupted.discard(process)
        _end(process, patient)


def _end(process: subprocess.Popen[str], seconds: int) -> None:
    """End mmdebstrap and its children, if an exception came before their end.

    :param process: The running mmdebstrap, which leads a process group.
    :param seconds: Seconds that it has to clear up. Another Ctrl-C ends them.
    """
    if process.poll() is not None:
        return
    try:
        _signal(process, signal.SIGTERM)
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        pass
    finally:
        if process.poll() is None:
            _signal(process, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=seconds)


def failure(output: str, *, status: int, what: str, cache: Path) -> KernelError | HostError:
    """The error that says why mmdebstrap failed, by what it and apt printed.

    :param output: The lines that mmdebstrap and apt printed.
    :param status: The exit status of mmdebstrap, negative for a signal.
    :param what: The thing to fetch, as the beginning of the message.
    :param cache: The cache folder, for the message about a full disk.
    """
    details = tuple(line for line in output.splitlines() if line.strip())[-_DETAIL_LINES:]
    if re.search(_DISK_FULL, output):
        return HostError(disk_full(cache).message, details=details)
    cause = _cause(output)
    if cause is not None:
        return KernelError(f"{what}: {cause}", details=details)
    said = "its last lines follow" if details else "it printed nothing"
    return KernelError(f"{what}: mmdebstrap {describe_status(status)}; {said}", details=details)


def _cause(output: str) -> str | None:
    """The cause of a failure, and what to do, by what was printed; None where it isn't known."""
    return next((cause for pattern, cause in _CAUSES if re.search(pattern, output)), None)
