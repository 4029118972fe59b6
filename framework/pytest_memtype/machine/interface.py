"""The machine that a guest runs on, as its users see it: QEMU, or a target."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from pytest_memtype.errors import GuestError
from pytest_memtype.machine.console import Console
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.port import Port
from pytest_memtype.machine.state import GuestState


class AgentHost(Protocol):
    """A machine that an agent runs on.

    :ivar logs: The folder of the machine's logs.
    :ivar activity: The state as the machine's user sees it: ``booting``, ``ready``, ``busy`` or ``hung``.
    """

    logs: Path
    activity: GuestState

    @property
    def agent_port(self) -> Port:
        """The serial port that leads to the agent."""

    @property
    def console(self) -> Console:
        """The kernel's console.

        :raises Unavailable: the machine has no console that this process can see.
        """

    @property
    def hardware(self) -> Hardware:
        """The hardware of the machine."""

    @property
    def alive(self) -> bool:
        """Whether the machine can still be talked to."""

    @property
    def state(self) -> GuestState:
        """The state of the guest, from its boot to its end."""

    @property
    def rerun(self) -> str:
        """The command that starts the same machine again."""

    def death(self) -> GuestError | None:
        """The reason why the machine can't be talked to any more, or None while it can."""

    def close(self) -> None:
        """End the machine, or what this project runs on it. Calling this again does nothing."""
