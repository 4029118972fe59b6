"""The agent and its module brought to another machine, into a folder that was not there before."""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import dataclass
from errno import EEXIST, EINVAL, EKEYREJECTED, ENOEXEC, ENOKEY, EPERM
from pathlib import Path, PurePosixPath

from pytest_memtype.errors import ModuleNotLoaded, ModuleRefused, SshError
from pytest_memtype.ssh.connection import Connection

# Debian's initramfs mounts /run noexec, and others do so with /tmp: the first is taken that can run a script.
_NEW_FOLDER = """
for base in /run /dev/shm /var/tmp /tmp; do
    folder=$(mktemp -d $base/memtype-XXXXXXXX) || continue
    echo '#!/bin/sh' > $folder/probe && chmod 700 $folder/probe && $folder/probe && rm $folder/probe &&
        echo folder=$folder && exit
    rm -rf $folder
done
exit 1
"""

_POLICY = """
cat /sys/kernel/security/lockdown /sys/module/module/parameters/sig_enforce 2> /dev/null
uname -r
"""


@dataclass(frozen=True)
class Deployed:
    """The files that were brought to another machine.

    :param folder: The private folder of these files, mode 0700.
    :param agent: The agent's program in it.
    :param module: The module in it; None where there is none for that kernel.
    """

    folder: PurePosixPath
    agent: PurePosixPath
    module: PurePosixPath | None


def deploy(connection: Connection, *, agent: Path, module: Path | None) -> Deployed:
    """Bring the agent and its module to the other side, into a fresh private folder.

    :param connection: The connection to the other side.
    :param agent: The agent's program on this host.
    :param module: The module on this host; None brings the agent alone.
    :raises SshDiskFull: there is no room for the files.
    :raises SshError: there is no folder that programs can be started from, or the connection broke.
    """
    made = connection.run(_NEW_FOLDER)
    _, found, folder_name = made.output.strip().rpartition("folder=")
    if made.status != 0 or not found:
        raise connection.failed("making a folder that programs may be started from", made)
    folder = PurePosixPath(folder_name)
    deployed = Deployed(folder, folder / "agent", None if module is None else folder / "memtype.ko")
    try:
        # A process of another user executes it once more; only root gets into the folder.
        connection.upload(agent.read_bytes(), deployed.agent, mode=0o755)
        if module is not None and deployed.module is not None:
            connection.upload(module.read_bytes(), deployed.module)
    except BaseException:
        # Where the connection broke, nothing more can be done.
        with contextlib.suppress(SshError):
            undeploy(connection, deployed)
        raise
    return deployed


def undeploy(connection: Connection, deployed: Deployed) -> None:
    """Remove the files that :func:`deploy` brought.

    :param connection: The connection to the other side.
    :param deployed: The result of :func:`deploy`.
    :raises SshError: the files can't be removed, or the connection broke.
    """
    done = connection.run(f"rm -rf {shlex.quote(str(deployed.folder))}")
    if done.status != 0:
        raise connection.failed(f"removing {deployed.folder}", done)


def refusal(connection: Connection, error: ModuleNotLoaded) -> ModuleRefused:
    """The error that says why a kernel didn't take the module.

    :param connection: The connection to the machine of that kernel.
    :param error: The error that the agent reported.
    :raises SshLost: the connection broke while the kernel's policy was read.
    """
    policy = connection.run(_POLICY).output
    release = policy.split()[-1] if policy.split() else "?"
    return ModuleRefused(f"{connection.address}: {explain_refusal(error, policy=policy, release=release)}")


def explain_refusal(error: ModuleNotLoaded, *, policy: str, release: str) -> str:
    """A line that says why the kernel refuses the module, and what to do.

    The errors are those of Linux's kernel/module/signing.c, mod_verify_sig() and module_sig_check(), of
    check_modinfo() and the lockdown hook in kernel/module/main.c, and of check_version() in
    kernel/module/version.c and simplify_symbols() (6.1); and of the module itself, guests/module/allowed.c.

    :param error: The error that the agent reported.
    :param policy: The contents of ``/sys/kernel/security/lockdown`` and ``sig_enforce`` of the module loader.
    :param release: The kernel's release, as ``uname -r`` prints it.
    """
    lockdown = next((mode for mode in ("integrity", "confidentiality") if f"[{mode}]" in policy), None)
    says = error.kernel_says
    if says.startswith("memtype: allowed: "):
        return f"the module does not take the memory that is to be allowed: {says}"
    if error.errno == EEXIST:
        return f"kernel {release} has the module loaded already, and in use: another run uses this machine"
    if lockdown is not None and error.errno == EPERM:
        return (
            f"kernel {release} refuses the module: lockdown is {lockdown} (Secure Boot?); start it without, "
            "or sign the module with a key that it trusts"
        )
    if error.errno in (EKEYREJECTED, ENOKEY):
        return (
            f"kernel {release} refuses the module: its signature policy wants a signed one; start it without "
            "module.sig_enforce=1, or sign the module"
        )
    if error.errno == EPERM:
        return f"kernel {release} lets nobody load modules (kernel.modules_disabled, or not root)"
    # The kernel's last line of two; with the first alone, and ENOEXEC, it is about the symbol module_layout.
    other_versions = error.errno == EINVAL and "Unknown symbol" in says
    if other_versions or "disagrees about version of symbol" in says:
        return (
            f"kernel {release} refuses the module: its symbols have other versions than those the module was "
            f"built with ({says}); give the headers of the very kernel that runs"
        )
    if error.errno == ENOEXEC:
        return (
            f"kernel {release} refuses the module: it was built for another kernel (version magic); give the "
            "headers of the one that runs"
        )
    return f"kernel {release} refuses the module: {error.message}"
