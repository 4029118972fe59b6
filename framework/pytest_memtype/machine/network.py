"""The way into a guest's network: a port on this host's loopback, picked by the operating system."""

from __future__ import annotations

import re

from pytest_memtype.errors import GuestError
from pytest_memtype.machine.machine import Machine
from pytest_memtype.machine.qemu_command import NETWORK

LOOPBACK = "127.0.0.1"
_FORWARD = re.compile(rf"TCP\[HOST_FORWARD\]\s+\d+\s+{re.escape(LOOPBACK)}\s+(\d+)\s")


def open_port(machine: Machine, port: int) -> int:
    """Let this host reach a TCP port of the guest, and return the port on :data:`LOOPBACK` that leads there.

    It is open until :func:`close_port`, or the end of this QEMU.

    :param machine: A guest that was started with a network.
    :param port: The number of the guest's TCP port.
    :raises GuestError: the guest has no network, or QEMU can't open a port on this host.
    """
    before = _open(machine)
    said = _monitor(machine, f"hostfwd_add {NETWORK} tcp:{LOOPBACK}:0-:{port}")
    opened = _open(machine) - before
    if said or len(opened) != 1:
        raise GuestError(f"QEMU opened no port to the guest: {said or 'it names none'}")
    return opened.pop()


def close_port(machine: Machine, opened: int) -> None:
    """Close a port that :func:`open_port` opened. Connections that were made through it go on.

    :param machine: The guest that the port leads to.
    :param opened: The number of the port on this host.
    :raises GuestError: the port is still open afterwards.
    """
    said = _monitor(machine, f"hostfwd_remove {NETWORK} tcp:{LOOPBACK}:{opened}")
    if opened in _open(machine):
        raise GuestError(f"QEMU didn't close port {opened}: {said}")


def _open(machine: Machine) -> set[int]:
    return {int(port) for port in _FORWARD.findall(_monitor(machine, "info usernet"))}


def _monitor(machine: Machine, line: str) -> str:
    # QMP has no command of its own for this (QEMU 7.2 to 10).
    return machine.qmp.monitor(line).strip()
