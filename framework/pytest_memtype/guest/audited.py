"""What the audit needs of a guest besides its memory: whose address spaces there are, and what is tracked."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from pytest_memtype.audit.audit import Audit
from pytest_memtype.audit.findings import Tracked
from pytest_memtype.audit.machine import audit_machine
from pytest_memtype.errors import AgentError, ModuleMissing
from pytest_memtype.guest.agent import Agent
from pytest_memtype.guest.protocol import plain
from pytest_memtype.machine.life import GuestState

if TYPE_CHECKING:
    from pytest_memtype.guest.guest import Guest


def audited(guest: Guest, agent: Agent, *, scan: bool, tracked: bool) -> Audit:
    """See :meth:`Guest.audit`."""
    if guest.machine.state is GuestState.STOPPED:
        return audit_machine(guest.machine)
    spaces = None if scan else _spaces(agent)
    return audit_machine(guest.machine, spaces=spaces, tracked=_tracked(guest) if tracked else None)


def _spaces(agent: Agent) -> dict[int, tuple[int, str]] | None:
    """None in a guest without the module."""
    try:
        reply = agent.call("mm_list")
    except ModuleMissing:
        return None
    return reply.decode(
        lambda content: {int(root): (int(pid), plain(name)) for root, pid, name in content["mm_list"]}
    )


def _tracked(guest: Guest) -> list[Tracked] | None:
    found: list[Tracked] = []
    # With the PAT off Linux keeps no list, and the verifier's records are all there is.
    with contextlib.suppress(AgentError):
        found += [
            Tracked(each.region.start, each.region.size, f"Linux' list: {each.memtype}", each.memtype)
            for each in guest.memtype_list()
        ]
    try:
        found += [
            Tracked(each.region.start, each.region.size, str(each), each.memtype) for each in guest.tracked()
        ]
    except ModuleMissing:
        return found or None
    return found
