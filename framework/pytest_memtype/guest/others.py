"""Mappings of others in a guest: those observed since its test began, and which of them it has looked at."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from pytest_memtype.errors import AgentError
from pytest_memtype.guest.agent import Agent
from pytest_memtype.guest.module import Module
from pytest_memtype.guest.observation import Observation, Probe, decode_observation, decode_status
from pytest_memtype.guest.operation import Steps, ask, carry_out
from pytest_memtype.guest.region import Region


class Others:
    """Observations of a guest's boot, and which of them a test is to be judged by.

    :param agent: The guest's agent.
    :param modules: The modules that the guest has loaded for its tests, by name; later changes count, too.
    :ivar before: How many of the first observations were made before the test.
    """

    def __init__(self, agent: Agent, modules: Mapping[str, Module]) -> None:
        self._agent = agent
        self._modules = modules
        self.before = 0
        self.begin_test()

    def begin_test(self) -> None:
        """Forget what a test has looked at; those before it stay before it."""
        self._looked = False
        self._seen: set[int] = set()

    def note(self) -> int:
        """Count the observations so far as the boot's, not the test's; returns how many there are."""
        self.before = len(carry_out(self._agent, self._all()))
        return self.before

    def blind(self) -> tuple[Probe, ...]:
        """The probes that don't work where they should: mappings of others go unseen.

        None where PAT is off: Linux reserves nothing then, and 5.10 and 7.2 ask before they free (5.10,
        arch/x86/mm/pat/memtype.c), so that the probe there is never called.
        """
        reply = self._agent.call("observation")
        failed = tuple(probe for probe in reply.decode(decode_status).probes if not probe.armed)
        if failed:
            try:
                self._agent.call("memtype_list")
            except AgentError:
                return ()
        return failed

    def observed(self, region: Region | None, module: Module | str | None) -> Steps[list[Observation]]:
        """The steps of ``guest.observed()``: the test looks itself, and nothing is held against it."""
        self._looked = True
        found = yield from self._all()
        name = module.name if isinstance(module, Module) else module
        return [
            each
            for each in found
            if (region is None or each.region.overlaps(region)) and name in (None, each.module)
        ]

    def aliases(self, owner: Module | str | None) -> tuple[Observation, ...]:
        """The answer of ``guest.aliases()``: the test has looked at those of an owner, or at all."""
        if owner is None:
            self._looked = True
        name = owner.name if isinstance(owner, Module) else owner
        return tuple(each for each in self.made_by(name) if each.rule is not None and not each.errno)

    def made_by(self, name: str | None) -> list[Observation]:
        """The observations since the test began of a module or a task, which the test has so looked at.

        :param name: The module's name, or the task's; None for all.
        """
        found = carry_out(self._agent, self._all())
        mine = []
        for number, each in enumerate(found[self.before :], start=self.before):
            if not each.seeded and name in (None, each.module, each.task):
                self._seen.add(number)
                mine.append(each)
        return mine

    def unseen_aliases(self) -> list[Observation]:
        """Mappings since the test began that break the rule ``alias``, and that it hasn't looked at."""
        if self._looked:
            return []
        found = carry_out(self._agent, self._all())
        return [
            each
            for number, each in enumerate(found)
            if number >= self.before
            and number not in self._seen
            and each.rule == "alias"
            and not each.errno
            and not each.seeded
        ]

    def _all(self) -> Steps[list[Observation]]:
        reply = yield from ask("observed")
        found = reply.decode(lambda content: [decode_observation(each) for each in content["observations"]])
        return [self._with_line(each) for each in found]

    def _with_line(self, each: Observation) -> Observation:
        module = self._modules.get(each.module or "")
        if module is None:
            return each
        called = each.caller is not None and each.caller.endswith(f" [{module.name}]")
        return dataclasses.replace(each, line=module.line((each.caller if called else each.handler) or ""))
