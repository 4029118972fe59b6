"""The agent's way into a distribution that boots: by SSH, with keys for this boot alone."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

import paramiko

from pytest_memtype.distribution.distribution import Distribution
from pytest_memtype.errors import BootError, SshError
from pytest_memtype.guest.ssh import AUTHORIZED_KEYS, SSH_PORT, connection
from pytest_memtype.machine.machine import Machine
from pytest_memtype.machine.network import close_port, open_port
from pytest_memtype.machine.timeouts import DISTRIBUTION_BOOT
from pytest_memtype.ssh.deploy import deploy
from pytest_memtype.ssh.keys import key_of, new_private_key, public_line

READY = b"memtype: sshd listens"
"""The line that memtype-ready.service in ``guests/debian`` prints on the console."""

# As a service it outlives the connection that starts it. It is as free as the init of the minimal guest:
# no limit on tasks, and the last that the kernel kills when memory is short.
_START = (
    "systemd-run --quiet --unit=memtype-agent --property=TasksMax=infinity --property=OOMScoreAdjust=-1000"
)
_SETTLED = "systemctl is-system-running --wait"


@dataclass(frozen=True)
class BootKeys:
    """Keys for one boot, which are of no use after it.

    :param identity: The key pair that the guest's sshd lets in.
    :param host: The private half of the guest's host key, in OpenSSH's format.
    """

    identity: paramiko.PKey
    host: str

    @classmethod
    def new(cls) -> BootKeys:
        return cls(key_of(new_private_key()), new_private_key())

    @property
    def fw_cfg_files(self) -> dict[str, bytes]:
        """The files for :meth:`Machine.start`, by the names that take-keys in ``guests/debian`` looks for."""
        return {
            "opt/memtype/host_key": self.host.encode(),
            "opt/memtype/authorized_key": f"{public_line(self.identity)}\n".encode(),
        }


def bring_up(machine: Machine, distribution: Distribution, keys: BootKeys) -> None:
    """Wait for the sshd of a distribution that boots, deploy the agent, and start it on its serial port.

    :param machine: The running machine, which was started with a network and with the files of ``keys``.
    :param distribution: The distribution that boots, with the agent and module to deploy.
    :param keys: The keys that the machine was started with.
    :raises BootError: the agent can't be deployed or started.
    :raises GuestError: the guest ended, or sshd didn't listen in time.
    """
    machine.console.purpose = "sshd to listen"
    machine.console.expect_exact(READY, timeout=DISTRIBUTION_BOOT)
    machine.console.purpose = None
    port = open_port(machine, SSH_PORT)
    try:
        with connection(machine, port, keys.identity, key_of(keys.host)) as link:
            deployed = deploy(link, agent=distribution.agent, module=distribution.module)
            arguments = [str(deployed.agent), "--port", "/dev/ttyS1", "--folder", str(deployed.folder)]
            if deployed.module is not None:
                arguments += ["--module", str(deployed.module)]
            arguments += ["--allow", "all", "--printk", "8", "--shell"]
            # From now on the agent is the only way in.
            for command in (f"{_START} {shlex.join(arguments)}", _SETTLED, f"rm {AUTHORIZED_KEYS}"):
                done = link.run(command)
                if done.status != 0:
                    raise link.failed(f"running {command}", done)
    except SshError as error:
        raise BootError(f"{distribution.name}: the agent can't be deployed: {error.message}") from error
    close_port(machine, port)
