"""The effective types of a region at this moment, by the page tables of all that a test has mapped."""

from __future__ import annotations

from typing import Any

from pytest_memtype.errors import ProcessDied
from pytest_memtype.guest.agent import Agent
from pytest_memtype.guest.journal import Journal
from pytest_memtype.guest.outcome import Mapping
from pytest_memtype.guest.page_table import effective_types, types_by_address
from pytest_memtype.guest.region import Region
from pytest_memtype.guest.registers import Registers
from pytest_memtype.x86.effective import Effective, EffectiveType
from pytest_memtype.x86.memtype import MemType


def effective_now(
    agent: Agent, journal: Journal, region: Region, registers: Registers
) -> tuple[Effective | None, ...]:
    """Read the page tables of the live mappings again, and combine what they hold with a CPU's registers.

    :param agent: Reads the page tables.
    :param journal: Knows which mappings are live.
    :param region: The pages in question.
    :param registers: PAT and MTRRs of the CPU whose view is taken.
    :returns: For each page its effective type; None where nothing maps it, ``ALIASED`` where it
        has several.
    """
    pages: dict[int, set[Effective]] = {address: set() for address in region.addresses()}
    for mapping in journal.live(region):
        if mapping not in journal.live(region):
            continue  # Its process was found dead with another of its mappings.
        types = _types_of(agent, journal, mapping, registers)
        effective = effective_types(mapping.region, types, registers)
        for address, one in zip(mapping.region.addresses(), effective, strict=True):
            if one is not None and address in pages:
                pages[address].add(one)
    return tuple(
        next(iter(types), None) if len(types) < 2 else EffectiveType.ALIASED for types in pages.values()
    )


def _types_of(
    agent: Agent, journal: Journal, mapping: Mapping, registers: Registers
) -> tuple[MemType | None, ...]:
    """The type by which each page of a mapping's region is mapped, None where something else is there."""

    def decode(content: dict[str, Any]) -> tuple[MemType | None, ...]:
        return types_by_address(content["page_table"], mapping.region, registers.pat_value)

    if mapping.kind == "kernel":
        return agent.call("page_table", handle=mapping.handle).decode(decode)
    try:
        reply = agent.call("user_page_table", process=mapping.holder, handle=mapping.handle)
    except ProcessDied:
        # The OOM killer may have come since; its mappings are gone with it.
        journal.exited(mapping.holder)
        return (None,) * mapping.region.pages
    return reply.decode(decode)
