"""The agent and the module for the kernel that a target runs."""

from __future__ import annotations

import contextlib
import io
import shlex
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from pytest_memtype.errors import HeadersMissing, KernelError, SshError, UsageError
from pytest_memtype.host import resources
from pytest_memtype.host.progress import Progress
from pytest_memtype.kernels.build import copy_sources
from pytest_memtype.kernels.bundle import Bundle, bundle
from pytest_memtype.ssh.connection import Connection
from pytest_memtype.ssh.deploy import Deployed, deploy, undeploy
from pytest_memtype.target.facts import Facts

_ANY = "debian:bookworm"

#: Seconds for a build over there.
BUILD: Final = 600.0


@dataclass(frozen=True)
class AgentFiles:
    """What is to be brought there.

    :param module: None where it is to be built there.
    :param made: How it came to be, for people.
    """

    agent: Path
    module: Path | None
    made: str


def halves(facts: Facts, *, where: str, progress: Progress) -> AgentFiles:
    """The agent, and the module unless the target can build it.

    :raises HeadersMissing: nobody can build it.
    """
    if facts.headers:
        # Static, so that of any kernel will do.
        return AgentFiles(bundle(_ANY, progress=progress).agent, None, "built there, with its own headers")
    try:
        made: Bundle | None = bundle(f"debian:{facts.release}", progress=progress)
        why = "its Debian package's headers are gone"
    except (KernelError, UsageError) as error:
        made, why = None, error.message
    if made is None or made.stripped_module is None:
        raise HeadersMissing(
            f"{where}: no module for its kernel {facts.release}: it has no headers with a compiler "
            f"(/lib/modules/{facts.release}/build, make, gcc), and no Debian package fits: {why}"
        )
    return AgentFiles(made.agent, made.stripped_module, f"from Debian's headers of {made.version}")


def deploy_module(connection: Connection, made: AgentFiles) -> Deployed:
    """Deploy both halves.

    :raises SshError: see :func:`pytest_memtype.ssh.deploy.deploy`; or the module doesn't build there.
    """
    deployed = deploy(connection, agent=made.agent, module=made.module)
    if made.module is not None:
        return deployed
    module = deployed.folder / "memtype.ko"
    try:
        built = connection.run(_build_script(deployed.folder, module), data=_sources(), timeout=BUILD)
        if built.status != 0:
            raise connection.failed("building the module there", built)
    except BaseException:
        # Where the connection is what broke the script does so by itself, once make has ended.
        with contextlib.suppress(SshError):
            connection.run(_END_BUILD.format(shlex.quote(f"{deployed.folder}/build")))
            undeploy(connection, deployed)
        raise
    return Deployed(deployed.folder, deployed.agent, module)


# timeout(1) leads a process group of its own, with all that it starts.
_END_BUILD: Final = (
    "[ ! -e {0} ] || {{ kill -KILL -$(cat {0}); while kill -0 -$(cat {0}); do sleep 0.1; done; }}"
)


def _build_script(folder: PurePosixPath, module: PurePosixPath) -> str:
    whole, source = shlex.quote(str(folder)), shlex.quote(f"{folder}/source")
    build = (
        f"set -e; echo $PPID > {whole}/build; mkdir {source}; tar -C {source} -x; "
        f"make -s -C /lib/modules/$(uname -r)/build M={source}/guests/module KCFLAGS=-Werror modules; "
        f"strip --strip-debug -o {shlex.quote(str(module))} {source}/guests/module/memtype.ko; "
        f"rm -r {source} {whole}/build"
    )
    # Its parent is the sshd of this connection.
    return (
        f"timeout {BUILD:.0f} sh -c {shlex.quote(build)}; status=$?; "
        f"[ $status = 0 ] && [ -e /proc/$PPID ] || rm -rf {whole}; exit $status"
    )


def _sources() -> bytes:
    archive = io.BytesIO()
    with tempfile.TemporaryDirectory() as work, tarfile.open(fileobj=archive, mode="w") as tar:
        copy_sources(resources.guest_sources(), Path(work))
        tar.add(Path(work) / "guests" / "module", "guests/module")
    return archive.getvalue()
