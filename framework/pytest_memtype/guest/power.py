"""The machine moves under the guest: it sleeps and is woken, and CPUs go and come back."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pytest_memtype.errors import GuestError, Unavailable, UsageError
from pytest_memtype.guest.agent import Agent
from pytest_memtype.guest.journal import Journal
from pytest_memtype.guest.protocol import plain
from pytest_memtype.guest.strict import integer
from pytest_memtype.machine.machine import Machine
from pytest_memtype.machine.timeouts import SUSPEND
from pytest_memtype.machine.wait import deadline_after

_STATES = "/sys/power/state"
_SAID = "/tmp/memtype-suspend"
_REFUSED = "memtype: the kernel refuses to suspend"
# Seconds between two looks at the console.
_LOOK: Final = 0.1

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
    :raises GuestError: its kernel refused; it didn't fall asleep, didn't wake, or died meanwhile.
    """
    if not 0 <= seconds <= LONGEST:
        raise UsageError(f"suspend: {seconds} seconds; 0 to {LONGEST:g} are possible")
    qmp = machine.qmp
    able = agent.call("shell", command=f"cat {_STATES}")
    if "mem" not in able.decode(lambda content: plain(content["output"])).split():
        raise Unavailable(f"this kernel doesn't suspend to RAM: {_STATES} has no mem")
    before = len(qmp.events)
    printed = _console(machine).stat().st_size
    # The shell that writes sleeps with all the others, so nobody waits for its answer.
    script = (
        f"rm -f {_SAID}; (why=$(echo mem 2>&1 > {_STATES}); status=$?; echo $status $why > {_SAID}; "
        f"[ $status = 0 ] || echo {_REFUSED} > /dev/kmsg) > /dev/null 2>&1 &"
    )
    agent.call("shell", command=script)
    asleep = _falls_asleep(machine, after=before, printed=printed)
    if asleep:
        # Nothing is to come but its end, which is an error.
        machine.ready(timeout=seconds)
        qmp.execute("system_wakeup")
        qmp.wait_for_event(
            lambda event: event["event"] == "WAKEUP", doing="waking", after=before, timeout=SUSPEND
        )
    reply = agent.call("shell", command=f"until [ -s {_SAID} ]; do sleep 0.1; done; cat {_SAID}")
    status, *why = reply.decode(lambda content: plain(content["output"])).split() or [""]
    journal.done("suspend", actor="test", arguments={}, result=status, log=reply.log)
    if status != "0":
        how = "came back from its suspension" if asleep else "refused to be suspended"
        raise GuestError(f"the guest {how} with status {status}: {' '.join(why)}", details=reply.log)


def _falls_asleep(machine: Machine, *, after: int, printed: int) -> bool:
    """Wait until the guest is suspended. False where its kernel refuses, as a driver may have it do.

    :param machine: The guest's QEMU.
    :param after: The number of QMP's events so far.
    :param printed: The number of bytes on the console so far.
    :raises GuestError: it did neither in time, or died.
    """
    deadline = deadline_after(SUSPEND)
    while not any(event["event"] == "SUSPEND" for event in machine.qmp.events[after:]):
        with _console(machine).open("rb") as console:
            console.seek(printed)
            if _REFUSED.encode() in console.read():
                return False
        remaining = deadline - deadline_after(0)
        if remaining <= 0:
            raise machine.hung("falling asleep", SUSPEND)
        machine.ready(timeout=min(_LOOK, remaining))
    return True


def _console(machine: Machine) -> Path:
    return machine.logs / "console.log"
