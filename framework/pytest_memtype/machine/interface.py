"""What a guest needs of the machine it runs on, be that QEMU or somebody's own."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from pytest_memtype.errors import GuestError
from pytest_memtype.machine.console import Console
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.port import Port
from pytest_memtype.machine.state import GuestState


class AgentHost(Protocol):
    """A machine with an agent.

    :ivar logs: Folder of its logs.
    :ivar activity: What its user has it do: ``booting``, ``ready``, ``busy`` or ``hung``.
    """

    logs: Path
    activity: GuestState

    @property
    def agent_port(self) -> Port:
        """The way to its agent."""

    @property
    def console(self) -> Console:
        """The kernel's console.

        :raises Unavailable: it has none that we can see.
        """

    @property
    def hardware(self) -> Hardware:
        """What it is."""

    @property
    def alive(self) -> bool:
        """Whether it can still be talked to."""

    @property
    def state(self) -> GuestState:
        """Where the guest is in its life."""

    @property
    def rerun(self) -> str:
        """A command that gets the same machine again."""

    def death(self) -> GuestError | None:
        """Why it can't be talked to any more, or None while it can."""

    def close(self) -> None:
        """End it, or what runs on it of ours. Calling this again does nothing."""
