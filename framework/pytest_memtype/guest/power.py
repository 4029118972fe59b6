"""The machine moves under the guest: it sleeps and is woken, and CPUs go and come back."""

from __future__ import annotations

from typing import Final

from pytest_memtype.errors import GuestError, Unavailable, UsageError
from pytest_memtype.guest.agent import Agent
from pytest_memtype.guest.journal import Journal
from pytest_memtype.guest.protocol import plain
from pytest_memtype.machine.machine import Machine
from pytest_memtype.guest.strict import integer
from pytest_memtype.machine.qmp import Qmp

_STATES = "/sys/power/state"
_SAID = "/tmp/memtype-suspend"
# Drivers are asked, CPUs are taken off, and the firmware is entered; on a host that is busy.
_SECONDS: Final = 60.0

LONGEST: Final = 600.0
"""Seconds that a guest may sleep."""


class Cpu:
    """A CPU of a guest, which can be taken off and brought back.

    :ivar number: Its number in Linux, from 0.
    """

    def __init__(self, number: int, agent: Agent, journal: Journal) -> None:
        self.number = number
        self._agent = agent
        self._journal = journal

    def offline(self) -> None:
        """Have the kernel take the CPU off.

        :raises Unavailable: the kernel can't: it has no such CPU, or this one has to stay.
        """
        self._switch("offline", 0)

    def online(self) -> None:
        """Have the kernel bring the CPU back, which begins as after a reset, but keeps its MTRRs.

        :raises Unavailable: the kernel can't.
        """
        self._switch("online", 1)

    def _switch(self, operation: str, value: int) -> None:
        file = f"/sys/devices/system/cpu/cpu{self.number}/online"
        reply = self._agent.call("shell", command=f"echo {value} > {file}")
        status, output = reply.decode(lambda content: (integer(content["status"]), plain(content["output"])))
        arguments = {"cpu": self.number}
        self._journal.done(operation, actor="test", arguments=arguments, result=status, log=reply.log)
        if status:
            raise Unavailable(f"CPU {self.number} can't go {operation}: {output.strip()}")


def suspend(agent: Agent, journal: Journal, machine: Machine, *, seconds: float = 0.0) -> None:
    """Suspend a guest to RAM, and wake it.

    :param agent: Its agent.
    :param journal: Its journal.
    :param machine: Its QEMU.
    :param seconds: How long it sleeps at least, at most 600.
    :raises UsageError: it would be woken before it sleeps, or too late.
    :raises Unavailable: its kernel can't, for want of CONFIG_SUSPEND or of a firmware that knows how.
    :raises GuestError: it didn't fall asleep, didn't wake, or died meanwhile.
    """
    if not 0 <= seconds <= LONGEST:
        raise UsageError(f"suspend: {seconds} seconds; 0 to {LONGEST:g} are possible")
    qmp = machine.qmp
    able = agent.call("shell", command=f"cat {_STATES}")
    if "mem" not in able.decode(lambda content: plain(content["output"])).split():
        raise Unavailable(f"this kernel doesn't suspend to RAM: {_STATES} has no mem")
    before = len(qmp.events)
    # The shell that writes sleeps with all the others, so nobody waits for its answer.
    script = f"rm -f {_SAID}; (echo mem > {_STATES}; echo $? > {_SAID}) > /dev/null 2>&1 &"
    agent.call("shell", command=script)
    _wait(qmp, "SUSPEND", doing="falling asleep", after=before)
    # Nothing is to come but its end, which is an error.
    machine.ready(timeout=seconds)
    qmp.execute("system_wakeup")
    _wait(qmp, "WAKEUP", doing="waking", after=before)
    reply = agent.call("shell", command=f"until [ -s {_SAID} ]; do sleep 0.1; done; cat {_SAID}")
    status = reply.decode(lambda content: plain(content["output"])).strip()
    journal.done("suspend", actor="test", arguments={}, result=status, log=reply.log)
    if status != "0":
        raise GuestError(f"the guest came back from its suspension with status {status}")


def _wait(qmp: Qmp, name: str, *, doing: str, after: int) -> None:
    qmp.wait_for_event(lambda event: event["event"] == name, doing=doing, after=after, timeout=_SECONDS)
