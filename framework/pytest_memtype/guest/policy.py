"""The modes of a guest's verifier."""

from __future__ import annotations

from pytest_memtype.guest.agent import Agent


class Policy:
    """How the verifier of a guest works: assign to change it.

    ``enforce`` keeps a refused request from the kernel; ``audit``, its opposite, asks the kernel all the
    same. ``one_ioremap`` allows a page one kernel mapping.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._enforce = False
        self._one_ioremap = False

    @property
    def enforce(self) -> bool:
        return self._enforce

    @enforce.setter
    def enforce(self, value: bool) -> None:
        self._set(enforce=value, one_ioremap=self._one_ioremap)

    @property
    def audit(self) -> bool:
        return not self._enforce

    @audit.setter
    def audit(self, value: bool) -> None:
        self.enforce = not value

    @property
    def one_ioremap(self) -> bool:
        return self._one_ioremap

    @one_ioremap.setter
    def one_ioremap(self, value: bool) -> None:
        self._set(enforce=self._enforce, one_ioremap=value)

    def _set(self, *, enforce: bool, one_ioremap: bool) -> None:
        self._agent.call("policy", enforce=int(enforce), one_ioremap=int(one_ioremap))
        self._enforce, self._one_ioremap = enforce, one_ioremap
