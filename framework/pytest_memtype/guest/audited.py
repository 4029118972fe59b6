"""An audit of a guest, with the agent's list of address spaces and the mappings that are tracked."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pytest_memtype.audit.audit import Audit
from pytest_memtype.audit.findings import Tracked
from pytest_memtype.audit.own_guest import audit_machine
from pytest_memtype.errors import AgentError, ModuleMissing
from pytest_memtype.guest.agent import Agent
from pytest_memtype.guest.kernel_list import ListEntry, keeps_none
from pytest_memtype.guest.outcome import TrackedMapping
from pytest_memtype.guest.protocol import plain
from pytest_memtype.guest.strict import integer, region_of
from pytest_memtype.machine.machine import Machine
from pytest_memtype.machine.state import GuestState


def audited(
    machine: Machine,
    agent: Agent,
    *,
    scan: bool,
    listed: Callable[[], Iterable[ListEntry]] | None,
    recorded: Callable[[], Iterable[TrackedMapping]],
) -> Audit:
    """Audit a guest, as :meth:`Guest.audit` describes it.

    :param machine: The guest's QEMU. A stopped one is scanned, for its agent can't be asked.
    :param agent: Lists the address spaces of the guest's processes.
    :param scan: Look for page tables in all of RAM, and don't ask the agent.
    :param listed: Gives the kernel's own list; None where nothing tracked is to be compared.
    :param recorded: Gives the verifier's records.
    """
    if machine.state is GuestState.STOPPED:
        return audit_machine(machine)
    spaces = None if scan else _spaces(agent)
    tracked = None if listed is None else _tracked(listed, recorded)
    return audit_machine(machine, spaces=spaces, tracked=tracked)


def _spaces(agent: Agent) -> dict[int, tuple[int, str]] | None:
    """Process id and name by the root of the address space; None in a guest without the module."""
    try:
        reply = agent.call("mm_list")
    except ModuleMissing:
        return None
    return reply.decode(
        lambda content: {
            # A table is a page.
            region_of(root, 1).start: (integer(pid), plain(name))
            for root, pid, name in content["mm_list"]
        }
    )


def _tracked(
    listed: Callable[[], Iterable[ListEntry]], recorded: Callable[[], Iterable[TrackedMapping]]
) -> list[Tracked] | None:
    found: list[Tracked] = []
    try:
        found += [
            Tracked(each.region.start, each.region.size, f"Linux' list: {each.memtype}", each.memtype)
            for each in listed()
        ]
    except AgentError as error:
        # The verifier's records are all there is then.
        if not keeps_none(error):
            raise
    try:
        found += [
            Tracked(each.region.start, each.region.size, str(each), each.memtype) for each in recorded()
        ]
    except ModuleMissing:
        return found or None
    return found
