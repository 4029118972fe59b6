"""Failures on demand: a function of the guest's kernel returns at once, as if it had failed.

A kprobe at the function's first instruction sends its caller back with another value, in one process, for the
calls that are chosen. Debian's kernels have no fault injection of their own.
"""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass
from typing import Final, Self

from pytest_memtype.errors import GuestError, UsageError
from pytest_memtype.guest.agent import Agent
from pytest_memtype.guest.journal import Journal
from pytest_memtype.guest.process import Process
from pytest_memtype.guest.strict import error_number, integer
from pytest_memtype.machine.state import GuestState

NULL: Final = 0
"""Return value by which a function that returns a pointer fails."""

# register_kprobe(), kernel/kprobes.c, 5.10 to 7.3.
_REASONS: Final = {
    errno.ENOENT: "this kernel has no function of that name; the compiler may have inlined it",
    errno.EINVAL: "the kernel forbids a probe there",
    errno.EADDRNOTAVAIL: "this kernel has several functions of that name",
    errno.EOPNOTSUPP: "this kernel has no kprobes",
}


@dataclass(frozen=True)
class FaultCounts:
    """How often a function was called since it was told to fail.

    :param calls: Number of calls by the process in which it fails.
    :param failed: How many of these calls failed.
    """

    calls: int
    failed: int


class Fault:
    """A function that is told to fail; in a ``with`` statement, until its end, also by an error or a kexec.

    :ivar function: Its name in the kernel's symbol table.
    """

    def __init__(self, agent: Agent, function: str, handle: int) -> None:
        self.function = function
        self._agent = agent
        self._handle = handle

    @property
    def counts(self) -> FaultCounts:
        """How often the function was called and has failed so far.

        :raises AgentError: the fault was disarmed.
        """
        reply = self._agent.call("fault_calls", handle=self._handle)
        return reply.decode(
            lambda content: FaultCounts(integer(content["calls"]), integer(content["failed"]))
        )

    def disarm(self) -> None:
        """Let the function work again.

        :raises AgentError: the fault was disarmed before.
        """
        self._agent.call("fault_end", handle=self._handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        # It has ended with its kernel.
        if self._agent.gone:
            return
        if error is None:
            self.disarm()
            return
        # What ended the block matters more than a guest that can't be told. One that hangs would only make
        # the test wait once more.
        if self._agent.machine.activity is not GuestState.HUNG:
            with contextlib.suppress(GuestError):
                self.disarm()


class Faults:
    """The functions that a guest's kernel is told to fail."""

    def __init__(self, agent: Agent, journal: Journal) -> None:
        self._agent = agent
        self._journal = journal

    def fail(
        self,
        function: str,
        *,
        task: Process | None = None,
        times: int = 1,
        after: int = 0,
        returns: int = NULL,
    ) -> Fault:
        """Have a function fail, without its body being run.

        ::

            with guest.faults.fail("pte_alloc_one", task=parent):
                with pytest.raises(OSError):
                    parent.fork()

        :param function: Its name in the kernel's symbol table.
        :param task: The process in which it fails; None for the agent, which carries out drivers' operations.
        :param times: How many calls fail.
        :param after: How many calls succeed before.
        :param returns: The caller gets this: :data:`NULL`, or a negative errno where it expects a number.
        :raises UsageError: the function can't be probed, with the reason.
        """
        if times < 1 or after < 0:
            raise UsageError(f"faults: times={times} must be at least 1, and after={after} at least 0")
        if task is not None:
            # The kernel gives its pid again.
            task.check_present()
        reply = self._agent.call(
            "fault",
            function=function,
            pid=0 if task is None else task.pid,
            after=after,
            times=times,
            returns=returns & ((1 << 64) - 1),
        )
        error, handle = reply.decode(
            lambda content: (error_number(content["errno"]), integer(content["handle"]))
        )
        arguments = {
            "function": function,
            "task": "the agent" if task is None else task.name,
            "times": times,
            "after": after,
            "returns": returns,
        }
        self._journal.done("fail", actor="test", arguments=arguments, result=error, log=reply.log)
        if error:
            reason = _REASONS.get(error, os.strerror(error))
            raise UsageError(f"faults: {function} can't be made to fail: {reason}")
        self._journal.record_query("fault", function)
        return Fault(self._agent, function, handle)
