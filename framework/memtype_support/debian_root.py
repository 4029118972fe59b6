"""Root folders of other Debian releases, entered as a machine is and not by chroot.

In a chroot Linux makes no user namespace, so that bubblewrap and mmdebstrap fail there for a plain user, and
mmdebstrap asks other questions of root: a chroot hides faults that a container or a machine shows. So a root
is entered by pivot_root, in a mount namespace of its own, whose mounts end with the last process in it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pytest_memtype.errors import HostError
from pytest_memtype.host.program import run_to_end
from pytest_memtype.kernels.sources import sources_of

#: What a fresh machine has, beside what apt itself needs; passwd makes its users.
PACKAGES: Final = ("ca-certificates", "git", "passwd")

# How this host reaches its networks: without them a root reaches none.
_CARRIED = ("/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt")
_VARIABLES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Of x86-64: syscall number, and a flag of umount2(2).
_PIVOT_ROOT = 155
_MNT_DETACH = 2

# $1 the root, $2 and $3 Python and what it is to do at the end, then the command.
_ENTER: Final = r"""
set -eu
root=$1 python=$2 pivot=$3
shift 3
mount --make-rprivate /
mount --bind "$root" "$root"
cd "$root"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys 2>/dev/null || mount --rbind -o ro /sys sys
mount -t tmpfs -o mode=755 tmpfs dev
for name in null zero full random urandom tty kvm; do
    [ -e "/dev/$name" ] || continue
    : >"dev/$name"
    mount --bind "/dev/$name" "dev/$name"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
exec "$python" -c "$pivot" "$@"
"""

# The new root may have neither pivot_root nor umount, and the old one's programs don't run there.
_PIVOT: Final = f"""
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def check(status):
    if status:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
os.makedirs(".old", exist_ok=True)
check(libc.syscall({_PIVOT_ROOT}, b".", b".old"))
os.chdir("/")
check(libc.umount2(b"/.old", {_MNT_DETACH}))
os.rmdir("/.old")
# Not execvp(), which imports a module of the old root.
os.execv("/usr/bin/env", ["env", *sys.argv[1:]])
"""


def require_root() -> None:
    """:raises HostError: this user isn't root."""
    if os.geteuid() != 0:
        raise HostError("the root of another Debian is made and entered by root only; run this as root")


def make(suite: str, root: Path, *, packages: Sequence[str] = PACKAGES) -> None:
    """Install a minimal system of a Debian suite, with apt, into a new folder. This takes root.

    :param suite: ``trixie``.
    :param root: Made by the call.
    :raises HostError: this user isn't root, or mmdebstrap failed.
    """
    require_root()
    command = ["mmdebstrap", "--variant=apt", "--mode=root", f"--include={','.join(packages)}"]
    done = run_to_end([*command, *sources_of(suite).arguments(root)])
    if done.returncode != 0:
        raise HostError(
            f"the root of Debian {suite} can't be made; mmdebstrap's last lines follow",
            details=tuple(done.stdout.splitlines()[-20:]),
        )
    for name in _CARRIED:
        if Path(name).is_file():
            shutil.copyfile(name, root / name.lstrip("/"))


def entering(root: Path, command: Sequence[str], *, user: str | None = None) -> list[str]:
    """The command that runs another one in a root, which this process must be root for.

    :param user: Who runs it there; None for root.
    """
    home = f"/home/{user}" if user else "/root"
    own = {name: value for name, value in os.environ.items() if name in _VARIABLES or name.startswith("PIP_")}
    variables = {**own, "PATH": _PATH, "HOME": home, "LANG": "C.UTF-8", "USER": user or "root"}
    inner = ["env", "-i", *(f"{name}={value}" for name, value in variables.items()), *command]
    if user is not None:
        inner = ["setpriv", "--reuid", user, "--regid", user, "--init-groups", "--", *inner]
    return [
        *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--"),
        *("sh", "-c", _ENTER, "enter", str(root), sys.executable, _PIVOT),
        *inner,
    ]


def remove(root: Path) -> None:
    """Remove a root folder. Nothing is mounted below it, or the removal stops there."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    below = [mount for mount in mounts if mount == str(root) or mount.startswith(f"{root}/")]
    if below:
        raise HostError(f"{shlex.quote(str(root))}: {below[0]} is mounted there; unmount it first")
    subprocess.run(["rm", "-rf", "--one-file-system", "--", str(root)], check=True)
