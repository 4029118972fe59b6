"""The agent and the module for a target's kernel, made and brought there."""

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

#: Seconds for a build on the target.
BUILD: Final = 600.0


@dataclass(frozen=True)
class AgentFiles:
    """The files that are to be brought to a target.

    :param agent: The agent, a static program.
    :param module: The module; None where it is to be built on the target.
    :param made: How the module is made, for people.
    """

    agent: Path
    module: Path | None
    made: str


def halves(facts: Facts, *, where: str, progress: Progress) -> AgentFiles:
    """The agent, and the module unless the target can build it.

    :param facts: Facts of the target.
    :param where: The target's address, for messages.
    :param progress: Called with one line at the start of each slow stage.
    :raises HeadersMissing: the module can be built neither on the target nor here.
    """
    if facts.headers:
        # The agent is static, so that any kernel's will do.
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
    """Deploy the agent and the module on a target, where the module is built if need be.

    :param connection: The connection to the target, as root.
    :param made: The files of :func:`halves`.
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
        # Where the connection broke, the script removes everything by itself, once make has ended.
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
    # The parent of the script is the sshd of this connection.
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
