"""The sandbox of a build: commands run with a kit as their root folder.

bubblewrap does it without root. Where bubblewrap can't (no user namespaces,
or a container without the right to mount), root uses chroot, in which nothing
can be mounted either: what a build reads of /dev and /proc is put there as files.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pytest_memtype.errors import HostError, KernelError
from pytest_memtype.host.child import dying_with_us
from pytest_memtype.host.program import run_to_end
from pytest_memtype.host.trust import require_ours

_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/tmp"}
_PROBE_SECONDS = 30
# Ubuntu's kernels have it, and it is 1 from 23.10 on: a user namespace gives no rights but to programs with a
# profile of AppArmor that says so, and bubblewrap has none (24.04).
_RESTRICTION = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")


@dataclass(frozen=True)
class Finished:
    """A command that ended: its exit status and all it printed."""

    status: int
    output: str


def bwrap_problem() -> str | None:
    """The reason why bubblewrap can't be used here, in its own words; None when it can. Really runs it."""
    if shutil.which("bwrap") is None:
        return "not installed"
    command = [*_isolated(Path("/")), "true"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"not done in {_PROBE_SECONDS} s"
    if done.returncode == 0:
        return None
    said = done.stderr.strip().rpartition("\n")[2] or f"exit status {done.returncode}"
    restricted = os.geteuid() != 0 and _RESTRICTION.is_file() and _RESTRICTION.read_text().strip() != "0"
    return f"{said} (sysctl kernel.{_RESTRICTION.name} isn't 0)" if restricted else said


def run(kit: Path, *, source: Path, script: str, limit: int) -> Finished:
    """Run shell lines inside a kit; ``source`` is ``/src`` there, the only folder that they can write to.

    :param kit: The root folder, which only this user may have been able to change.
    :param source: The folder that the lines see as ``/src``.
    :param script: Lines for ``/bin/sh``, run in ``/src``.
    :param limit: Seconds until the run counts as hung.
    :raises HostError: neither bubblewrap nor chroot can be used, or others than this user could have changed
        the kit.
    :raises KernelError: the run took longer than ``limit``.
    """
    # Owners and modes inside the kit are those of the packages.
    require_ours(kit, contents=False)
    # A run by chroot that was killed may have left none, and bubblewrap makes none in a kit.
    (kit / "src").mkdir(exist_ok=True)
    problem = bwrap_problem()
    if problem is None:
        writable = ["--bind", str(source), "/src", "--tmpfs", "/tmp", "--chdir", "/src"]
        return _finish([*_isolated(kit), *writable, "/bin/sh", "-c", script], limit=limit)
    if os.geteuid() != 0:
        raise HostError(
            f"bwrap: {problem}; the guest is built inside it: install bubblewrap and allow unprivileged "
            "user namespaces, or run as root"
        )
    _make_null(kit / "dev" / "null", problem)
    return _run_in_chroot(kit, source=source, script=script, limit=limit)


def _isolated(root: Path) -> list[str]:
    inside = ("--ro-bind", str(root), "/", "--proc", "/proc", "--dev", "/dev")
    return ["bwrap", *inside, "--unshare-all", "--die-with-parent", "--new-session"]


def _make_null(null: Path, problem: str) -> None:
    """Make a kit's /dev/null, which a build writes to and reads from.

    :param null: Its path.
    :param problem: The reason why bubblewrap can't be used, which would mount one.
    :raises HostError: this root may not make one, as in a container that belongs to a plain user.
    """
    if null.is_char_device():
        return
    null.parent.mkdir(exist_ok=True)
    try:
        os.mknod(null, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError as error:
        raise HostError(
            f"bwrap: {problem}; and root may not make {null} here, for a build by chroot ({error.strerror}): "
            "let this container mount, or give it the capability MKNOD"
        ) from None


def _run_in_chroot(kit: Path, *, source: Path, script: str, limit: int) -> Finished:
    # objtool of 7.3 looks up its stack there, which it uses in a message about an overflow only.
    maps = kit / "proc" / "self" / "maps"
    maps.parent.mkdir(parents=True, exist_ok=True)
    # It has paths, whose bytes may be any.
    maps.write_bytes(Path("/proc/self/maps").read_bytes())
    inside = kit / "src"
    # A run that was killed, or had no room, has left its own files there.
    shutil.rmtree(inside, ignore_errors=True)
    try:
        shutil.copytree(source, inside, dirs_exist_ok=True)
        command = [*dying_with_us(), "chroot", str(kit), "/bin/sh", "-c", f"cd /src\n{script}"]
        finished = _finish(command, limit=limit)
        shutil.copytree(inside, source, symlinks=True, dirs_exist_ok=True)
    finally:
        shutil.rmtree(inside, ignore_errors=True)
        inside.mkdir(exist_ok=True)
    return finished


def _finish(command: list[str], *, limit: int) -> Finished:
    try:
        done = run_to_end(
            command,
            env=_ENVIRONMENT | {"PATH": f"{_ENVIRONMENT['PATH']}:{os.environ.get('PATH', '')}"},
            timeout=limit,
        )
    except subprocess.TimeoutExpired:
        raise KernelError(
            f"the build in {command[0]} was not done in {limit} s; the host may be overloaded"
        ) from None
    return Finished(done.returncode, done.stdout)
