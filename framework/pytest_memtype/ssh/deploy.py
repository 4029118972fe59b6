"""The agent and its module brought to another machine, into a folder that was not there before."""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pytest_memtype.errors import ModuleRefused, SshError
from pytest_memtype.ssh.connection import Connection

# Debian's initramfs mounts /run noexec, and others mount /tmp so: the first is taken in which a script runs.
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
    """What was brought there.

    :param folder: Its own, mode 0700, of nobody else.
    :param module: None where there is none for that kernel.
    """

    folder: PurePosixPath
    agent: PurePosixPath
    module: PurePosixPath | None


def deploy(connection: Connection, *, agent: Path, module: Path | None) -> Deployed:
    """Bring the agent's two halves to the other side, into a fresh private folder.

    :raises SshDiskFull: there is no room for them.
    :raises SshError: there is no folder that programs may be started from, or the connection broke.
    """
    made = connection.run(_NEW_FOLDER)
    _, found, folder_name = made.output.strip().rpartition("folder=")
    if made.status != 0 or not found:
        raise connection.failed("making a folder that programs may be started from", made)
    folder = PurePosixPath(folder_name)
    deployed = Deployed(folder, folder / "agent", None if module is None else folder / "memtype.ko")
    try:
        connection.upload(agent.read_bytes(), deployed.agent, mode=0o700)
        if module is not None and deployed.module is not None:
            connection.upload(module.read_bytes(), deployed.module)
    except BaseException:
        # Where the connection is what broke nothing more can be done.
        with contextlib.suppress(SshError):
            withdraw(connection, deployed)
        raise
    return deployed


def withdraw(connection: Connection, deployed: Deployed) -> None:
    """Remove what :func:`deploy` brought.

    :raises SshError: it can't be removed, or the connection broke.
    """
    done = connection.run(f"rm -rf {shlex.quote(str(deployed.folder))}")
    if done.status != 0:
        raise connection.failed(f"removing {deployed.folder}", done)


def refusal(connection: Connection, said: str) -> ModuleRefused:
    """Why a kernel didn't take the module.

    :param said: The agent's complaint, which ends with the message of ``finit_module``'s errno.
    :raises SshLost: the connection broke while the kernel's policy was read.
    """
    policy = connection.run(_POLICY).output
    release = policy.split()[-1] if policy.split() else "?"
    return ModuleRefused(f"{connection.address}: {explain_refusal(said, policy=policy, release=release)}")


def explain_refusal(said: str, *, policy: str, release: str) -> str:
    """One line: what the kernel has against the module, and what to do.

    The errors are those of Linux's kernel/module/signing.c, mod_verify_sig() and module_sig_check(), and of
    check_modinfo() and the lockdown hook in kernel/module/main.c (6.1).

    :param policy: What ``/sys/kernel/security/lockdown`` and ``sig_enforce`` of the module loader hold.
    """
    lockdown = next((mode for mode in ("integrity", "confidentiality") if f"[{mode}]" in policy), None)
    enforced = "Y" in policy.split()
    if lockdown is not None and "Operation not permitted" in said:
        return (
            f"kernel {release} refuses the module: lockdown is {lockdown} (Secure Boot?); start it without, "
            "or sign the module with a key that it trusts"
        )
    if "Key was rejected" in said or "Required key not available" in said or (enforced and "key" in said):
        return (
            f"kernel {release} refuses the module: its signature policy wants a signed one; start it without "
            "module.sig_enforce=1, or sign the module"
        )
    if "Operation not permitted" in said:
        return f"kernel {release} lets nobody load modules (kernel.modules_disabled, or not root): {said}"
    # The second is how kmod's programs put it.
    if "Exec format error" in said or "Invalid module format" in said:
        return (
            f"kernel {release} refuses the module: it was built for another kernel (version magic); give the "
            "headers of the one that runs"
        )
    if "Invalid argument" in said or "Invalid parameters" in said:
        # kernel/module/version.c, check_version(): a symbol it uses is another there.
        return (
            f"kernel {release} refuses the module: its symbols have other versions than those the module was "
            "built with; give the headers of the very kernel that runs"
        )
    return f"kernel {release} refuses the module: {said}"
