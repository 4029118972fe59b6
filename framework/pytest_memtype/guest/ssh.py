"""A way into a distribution's guest for tests: its sshd, on a port of this host's loopback."""

from __future__ import annotations

import functools

import paramiko

from pytest_memtype.errors import GuestError
from pytest_memtype.machine.machine import Machine
from pytest_memtype.machine.network import LOOPBACK, open_port
from pytest_memtype.ssh.connection import Address, Connection
from pytest_memtype.ssh.keys import key_of, new_private_key

SSH_PORT = 22
AUTHORIZED_KEYS = "/root/.ssh/authorized_keys"
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key.pub"


def connected(machine: Machine, host_key: paramiko.PKey) -> Connection:
    """A connection into a guest that lets :func:`own_key` in. It ends with the machine.

    :param machine: The guest's QEMU, which lets the connection through to the guest's sshd.
    :param host_key: Public key of the guest's sshd.
    """
    link = connection(machine, open_port(machine, SSH_PORT), own_key(), host_key)
    machine.at_end(link.close)
    return link


@functools.cache
def own_key() -> paramiko.PKey:
    """The private key of this process, kept in memory only."""
    return key_of(new_private_key())


def connection(machine: Machine, port: int, identity: paramiko.PKey, host_key: paramiko.PKey) -> Connection:
    """A connection to the sshd behind a port of the loopback. It fails at once when the guest ends."""

    def death() -> GuestError | None:
        return machine.death(within=1.0)

    return Connection(Address(LOOPBACK, port), identity=identity, host_key=host_key, death=death)
