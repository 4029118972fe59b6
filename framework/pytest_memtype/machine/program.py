"""The program of a process that isn't ours, started once more without giving anybody more rights.

The process that listens on a socket chooses what is started there: which program, and in a mount namespace of
its own which file has that name, and which libraries it loads. So the program is looked at and started by one
descriptor; it is not started in a namespace that another user may mount things in; and root starts it as the
user whose process it is.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pytest_memtype.errors import HostError, UsageError
from pytest_memtype.host.child import dying_with_us

# Linux 4.9, include/uapi/linux/nsfs.h: the user namespace that owns a namespace.
_NS_GET_USERNS: Final = 0xB701


@dataclass(frozen=True)
class Program:
    """A command that starts a program, and what it needs.

    :param name: The program, for messages.
    :param command: The start of the command, to which arguments are added.
    :param descriptors: File descriptors that the command needs under their numbers.
    """

    name: str
    command: tuple[str, ...]
    descriptors: tuple[int, ...] = ()


def installed(name: str) -> Program:
    """A program that is installed on this host.

    :param name: Its name, which is looked up in PATH.
    :raises HostError: it isn't installed.
    """
    path = shutil.which(name)
    if path is None:
        raise HostError(f"{name} is not on this host; install the package qemu-system-x86")
    return Program(path, (*dying_with_us(), path))


@contextlib.contextmanager
def program_of(pid: int) -> Iterator[Program]:
    """The program of a process, to be started beside it: in its mount namespace, where its libraries are.

    :param pid: The process id.
    :raises UsageError: there is no such process, it can't be looked at, or its program is another user's.
    :raises HostError: this user can't start it there, or another user decides what is there.
    """
    with ExitStack() as stack:

        def opened(path: str, folder: int | None = None) -> int:
            # A program that may be started needn't be readable.
            flags = os.O_PATH if path == "exe" else os.O_RDONLY
            descriptor = os.open(path, flags, dir_fd=folder)
            stack.callback(os.close, descriptor)
            return descriptor

        name = f"/proc/{pid}/exe"
        try:
            # All of this one process, even if another one gets its number when it ends.
            process = opened(f"/proc/{pid}")
            binary = opened("exe", process)
            mounts = opened("ns/mnt", process)
            processes = opened("ns/pid", process)
            with open(opened("status", process), closefd=False) as status:
                who = {line.partition(":")[0]: line.split()[1:] for line in status}
        except OSError as error:
            raise UsageError(f"{name} can't be looked at: {error.strerror}; name QEMU with --pid") from None
        owner = os.fstat(binary).st_uid
        if owner not in (0, os.geteuid()):
            raise UsageError(f"{name} belongs to user {owner} and is not run as another; audit as that user")
        # The real user and group: the effective ones may be those of a program that is set-user-ID.
        user, group = who["Uid"][0], who["Gid"][0]
        others = () if os.geteuid() != 0 else (f"--reuid={user}", f"--regid={group}", "--clear-groups")
        program = f"/proc/self/fd/{binary}"
        command = [*dying_with_us(*others, "--no-new-privs"), program]
        descriptors = [binary]
        if not _is_ours(mounts, "mnt"):
            _require_enterable(pid, mounts=mounts, processes=processes)
            enter = ["nsenter", f"--mount=/proc/self/fd/{mounts}"]
            if all(_has(process, f"root/usr/bin/{each}") for each in ("setpriv", "sh")):
                command = [*enter, "--", *command]
            else:
                # A namespace may hold QEMU and its libraries alone. Then nsenter changes the user, with
                # which a command loses the signal that it asked for.
                command = [
                    *dying_with_us("--no-new-privs"),
                    *enter,
                    f"--setuid={user}",
                    f"--setgid={group}",
                    "--",
                ]
                command.append(program)
            descriptors.append(mounts)
        yield Program(name, tuple(command), tuple(descriptors))


def _has(process: int, path: str) -> bool:
    """Whether there is a file in the folder of a process in /proc.

    :param process: Descriptor of that folder.
    :param path: Path of the file within it.
    """
    try:
        os.stat(path, dir_fd=process)
    except OSError:
        return False
    return True


def _require_enterable(pid: int, *, mounts: int, processes: int) -> None:
    """Check that the mount namespace of a process can be entered, and may be.

    :param pid: The process id, for messages.
    :param mounts: Descriptor of its mount namespace.
    :param processes: Descriptor of its PID namespace.
    :raises HostError: the namespace can't be entered, or it shouldn't be.
    """
    if os.geteuid() != 0:
        raise HostError(
            f"process {pid} has a mount namespace of its own, as in a container; audit it as root"
        )
    inside = "what it loads there is not for root to run; run memtype audit in there"
    try:
        owner = fcntl.ioctl(mounts, _NS_GET_USERNS)
    except OSError:
        # EPERM: it isn't even one below ours.
        raise HostError(f"process {pid} is in a user namespace of its own: {inside}") from None
    try:
        if not _is_ours(owner, "user"):
            raise HostError(f"process {pid} is in a user namespace of its own: {inside}")
    finally:
        os.close(owner)
    # Root of a container is root here by its number, and would be without the container's limits.
    if not _is_ours(processes, "pid"):
        raise HostError(f"process {pid} is in a container: {inside}")


def _is_ours(namespace: int, kind: str) -> bool:
    return os.path.samestat(os.fstat(namespace), Path(f"/proc/self/ns/{kind}").stat())
