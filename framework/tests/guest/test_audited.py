"""What an audit compares with, by functions that answer in place of a guest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast

import pytest

from pytest_memtype import MemType, Region, TrackedMapping
from pytest_memtype.audit.findings import Tracked
from pytest_memtype.errors import AgentError
from pytest_memtype.guest import audited as module
from pytest_memtype.guest.agent import Agent
from pytest_memtype.guest.kernel_list import ListEntry
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.machine import Machine
from pytest_memtype.target.dry_run import DryMachine

RECORD = TrackedMapping("drm", Region(0xFD000000, 1), MemType.WC, "kernel")


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Agent:
    def found(_machine: object, **asked: Sequence[Tracked]) -> Sequence[Tracked]:
        return asked["tracked"]

    monkeypatch.setattr(module, "audit_machine", found)
    return Agent(DryMachine(tmp_path, Hardware()))


def tracked(agent: Agent, why: str) -> object:
    def listed() -> Iterable[ListEntry]:
        raise AgentError(why)

    return module.audited(
        cast(Machine, agent.machine),
        agent,
        scan=True,
        listed=listed,
        recorded=lambda: [RECORD],
    )


def test_without_a_list_the_records_are_what_is_tracked(agent: Agent) -> None:
    found = tracked(agent, "the kernel has no pat_memtype_list (PAT is off?)")
    assert found == [Tracked(RECORD.region.start, 4096, str(RECORD), MemType.WC)]


def test_a_list_that_can_not_be_read_is_an_error(agent: Agent) -> None:
    """Else an audit of a guest with a long list would judge by half of what is tracked."""
    with pytest.raises(AgentError, match="File too large"):
        tracked(agent, "pat_memtype_list can't be read: File too large")
