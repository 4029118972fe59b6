"""The agent in the guest, called over its serial port."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import pexpect

from pytest_memtype.errors import (
    AgentError,
    BootError,
    DamagedLine,
    ForeignLine,
    ModuleMissing,
    ModuleNotLoaded,
    NotAllowed,
    ProcessDied,
    UsageError,
)
from pytest_memtype.guest.mailbox import Mailbox
from pytest_memtype.guest.protocol import Line, decode_line, encode_request, new_token, plain
from pytest_memtype.guest.strict import error_number
from pytest_memtype.machine.interface import AgentHost
from pytest_memtype.machine.machine import qemu_of
from pytest_memtype.machine.port import CAPACITY
from pytest_memtype.machine.state import GuestState
from pytest_memtype.machine.timeouts import BOOT, BYTE, COMMAND, HEARTBEAT
from pytest_memtype.machine.wait import deadline_after

_T = TypeVar("_T")

_NONSENSE = (
    *(KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError),
    # From JSON with lists in lists in lists.
    RecursionError,
)
"""Exceptions that decoding raises when a hostile or broken guest answers."""

_LONGEST = 16 << 20
"""Bytes of the longest answer. A command's output is cut at 256 KiB: in JSON six times that at most."""

_ATTEMPTS = 3
"""How often a request is sent at most: a serial line that loses characters three times is broken."""


@dataclass(frozen=True)
class Reply:
    """The agent's reply to one request.

    :param verb: The verb of the request.
    :param content: The decoded JSON.
    :param log: The kernel's messages since the reply before, sanitised.
    :param boot: The agent's :attr:`Agent.boot`.
    """

    verb: str
    content: Any
    log: tuple[str, ...]
    boot: int = 0

    def decode(self, decoder: Callable[[Any], _T]) -> _T:
        """Turn the content from decoded JSON into a value of another type.

        :param decoder: Called with the content; returns the value. What it raises for a malformed content
            becomes an AgentError.
        :raises AgentError: the guest answered something that makes no sense.
        """
        try:
            return decoder(self.content)
        except _NONSENSE as error:
            raise AgentError(
                f"the agent's answer to {self.verb!r} makes no sense: {type(error).__name__}: {error}"
            ) from None


StandIn = Callable[[str, dict[str, str | int]], Reply]
"""A function that answers calls in place of a guest: called with the verb and the fields of a request."""


@dataclass
class _Wait:
    """The wait for one answer, which no guest can make longer than its size allows.

    :param deadline: When the answer has to begin, as of :func:`deadline_after`.
    :param limit: Seconds between the request and the deadline, for the message of an error.
    :param silence: Seconds within which a part of a line has to come; None for any until the deadline.
    :ivar late: Bytes of whole lines that came after the deadline.
    """

    deadline: float
    limit: float
    silence: float | None = None
    late: int = 0


class Agent:
    """The agent of one machine.

    :param machine: Has the agent's serial port, and the folder for logs.
    :param timeout: Seconds that it has for one request.
    :param heartbeat: Seconds that it may be silent during a request. A busy agent says so once a second: when
        it is silent for longer, the guest hangs.
    :param sequence: Number of the last request it has carried out. A clone begins with its template's.
    :param stub: Answers all calls in place of the agent, as in a dry run; None for the agent itself.
    :ivar log: All messages of the kernel so far, sanitised.
    :ivar boot: How often the machine's kernel had loaded itself anew before this agent began.
    """

    def __init__(
        self,
        machine: AgentHost,
        *,
        timeout: float = COMMAND,
        heartbeat: float = HEARTBEAT,
        sequence: int = 0,
        stub: StandIn | None = None,
    ) -> None:
        self.machine = machine
        self.timeout = timeout
        self.heartbeat = heartbeat
        self.log: list[str] = []
        self.boot = 0
        self._sequence = sequence
        self._stub = stub
        self._gone = False

    def greet(self, *, timeout: float = BOOT) -> Reply:
        """Wait until the agent of a guest that boots says it is there.

        :param timeout: Seconds that the guest has to boot.
        :raises AgentError: the greeting makes no sense.
        :raises BootError: the agent says that it can't do its work.
        :raises ModuleNotLoaded: the kernel refused the agent's module.
        :raises GuestError: the guest ended or hung first.
        """
        self.machine.agent_port.purpose = "the agent's greeting"
        wait = _Wait(deadline_after(timeout), timeout)
        while True:
            try:
                line = self._line(wait)
                # Of the agent before this one, where the kernel loads itself anew.
                if _is_heartbeat(line):
                    continue
                content = line.content
                break
            except ForeignLine:
                continue
            except DamagedLine:
                # An agent that can't do its work answers with the error of its greeting.
                return self.call("hello")
        self.machine.activity = GuestState.READY
        if isinstance(content, dict) and "error" in content:
            said = plain(content.get("kernel_says", ""))
            also = f" (the kernel says: {said})" if said else ""
            message = f"the agent can't start: {plain(content['error'])}{also}"
            if "module_errno" in content:
                greeting = Reply("greeting", content, ())
                error = greeting.decode(lambda answer: error_number(answer["module_errno"]))
                raise ModuleNotLoaded(message, errno=error, kernel_says=said)
            raise BootError(message)
        return Reply(verb="greeting", content=content, log=())

    @property
    def sequence(self) -> int:
        """Number of the last request sent."""
        return self._sequence

    def call(self, verb: str, **fields: str | int) -> Reply:
        """Have the agent carry out a request, exactly once.

        A damaged line in either direction makes the request be sent again, with the same sequence
        number: the agent answers it from memory if it was carried out.

        :param verb: The request.
        :param **fields: Its arguments: numbers, or text, which is quoted.
        :raises AgentError: the agent could not carry it out, or the line is broken; its subclass
            ``ProcessDied``: the process that should have done it died.
        :raises GuestError: the guest ended or hung.
        :raises UsageError: the agent has a successor, or the request is too long.
        """
        if self._stub is not None:
            return self._stub(verb, fields)
        self.check_present(verb)
        self._sequence += 1
        token = new_token()
        try:
            request = encode_request(self._sequence, token, verb, fields)
        except ValueError as error:
            raise UsageError(str(error)) from None
        self.machine.agent_port.purpose = f"the answer to {verb!r}"
        self.machine.activity = GuestState.BUSY
        wait = _Wait(deadline_after(self.timeout), self.timeout, self.heartbeat)
        for _attempt in range(_ATTEMPTS):
            self.note(request)
            self.machine.agent_port.send(request)
            line = self._answer(token, wait)
            if line is not None:
                self.machine.activity = GuestState.READY
                return self.accept(verb, line.content)
        raise AgentError(f"the agent's serial line damaged the request {verb!r} {_ATTEMPTS} times")

    @property
    def gone(self) -> bool:
        """Has the agent a successor?"""
        return self._gone

    def check_present(self, what: str) -> None:
        """Check that the agent's kernel hasn't loaded itself anew.

        :param what: What the agent is wanted for.
        :raises UsageError: it has, see :meth:`successor`.
        """
        if self._gone:
            raise UsageError(
                f"{what}: this object is from before guest.kexec(), and its kernel is gone; make it anew"
            )

    @functools.cached_property
    def mailbox(self) -> Mailbox:
        """The guest's memory for long messages.

        :raises HostError: this host doesn't let a process look into its child.
        :raises Unavailable: the guest doesn't run in a QEMU of this run.
        """
        memory = qemu_of(self.machine).memory
        reply = self.call("mailbox")
        return reply.decode(lambda content: Mailbox(memory, content["runs"]))

    def forget_memory(self) -> None:
        """Forget where the mailbox lies: the guest has moved to another QEMU, or its kernel moves pages."""
        self.__dict__.pop("mailbox", None)

    def successor(self) -> Agent:
        """The agent of the kernel that takes this one's place, which has yet to greet. This one is gone.

        What a test still has of this kernel's time has this agent, and never reaches the new kernel's.
        """
        self._gone = True
        self.forget_memory()
        other = Agent(self.machine, timeout=self.timeout, heartbeat=self.heartbeat, sequence=self._sequence)
        other.log = self.log
        other.boot = self.boot + 1
        return other

    def note(self, line: bytes) -> None:
        """Log a line that the guest is sent: QEMU's own log of the port has only what the guest sends."""
        with (self.machine.logs / "requests.log").open("ab") as log:
            log.write(line)

    def _answer(self, token: str, wait: _Wait) -> Line | None:
        """The line that answers the present request, None when the request or the answer was damaged."""
        purpose = self.machine.agent_port.purpose
        busy = False
        while True:
            silent = deadline_after(self.heartbeat)
            is_last = wait.deadline <= silent
            if busy:
                how = "lives, and is still busy with it" if is_last else "was busy with it, and fell silent"
                self.machine.agent_port.purpose = f"{purpose}; the agent {how}"
            try:
                line = self._line(wait)
            except DamagedLine:
                return None
            if _is_heartbeat(line):
                busy = True
                continue
            if line.sequence == 0:
                return None
            # An answer to a request that was sent again may arrive twice. Without the token it is no answer:
            # somebody in the guest has left it on the port before there was a request.
            if (line.sequence, line.token) == (self._sequence, token):
                return line

    def _line(self, wait: _Wait) -> Line:
        """The next line of the agent, decoded.

        One that has begun at the deadline gets as much more time as its bytes take, and a pause: TCG's serial
        line takes 0.2 MB/s. Whole lines that lie in the pipe at the deadline are read too, for this process
        may have been the one that was late.
        """
        port = self.machine.agent_port
        if wait.late > CAPACITY:
            port.purpose = f"{port.purpose}; the guest sends lines that answer nothing"
            raise port.silent(wait.limit)
        seen = 0
        while True:
            end = wait.deadline + (self.heartbeat + seen * BYTE if seen else 0)
            remaining = max(0.0, end - deadline_after(0))
            seconds = remaining if wait.silence is None else min(remaining, wait.silence)
            index = port.expect_exact([b"\n", pexpect.TIMEOUT], timeout=seconds)
            # At a timeout this is everything that has come since the line before.
            said = port.before or b""
            if index == 0:
                if wait.deadline <= deadline_after(0):
                    wait.late += len(said) + 1
                return decode_line(said)
            came = len(said) - seen
            if not came and (not seen or seconds == wait.silence):
                # The remaining part of the whole time would mean nothing in the message.
                raise port.silent(wait.silence if seconds == wait.silence else wait.limit)
            seen = len(said)
            if seen > _LONGEST:
                raise AgentError(
                    f"{port.purpose} is longer than {_LONGEST >> 20} MiB, which no agent of ours sends"
                )
            if not came or wait.deadline + self.heartbeat + seen * BYTE <= deadline_after(0):
                port.purpose = (
                    f"{port.purpose}; {seen} bytes of a line have come, slower than any serial line"
                )
                raise port.silent(wait.limit)

    def accept(self, verb: str, answer: Any) -> Reply:
        """Take the agent's answer to a request.

        :param verb: The request.
        :param answer: Decoded JSON, an object of ``log`` and ``reply``.
        :raises AgentError: the agent could not carry it out, or the answer makes no sense.
        :raises ModuleMissing: the request needs the module, and the guest has none.
        :raises NotAllowed: the guest is a target whose owner has not allowed the request.
        """
        try:
            content = answer["reply"]
            log = tuple(plain(text) for text in answer["log"])
        except _NONSENSE as error:
            raise AgentError(f"the agent's answer to {verb!r} makes no sense: {error!r}") from None
        self.log += log
        if isinstance(content, dict) and "no_module" in content:
            raise ModuleMissing(verb)
        if isinstance(content, dict) and "not_allowed" in content:
            raise NotAllowed(verb)
        if isinstance(content, dict) and "error" in content:
            kind = ProcessDied if content.get("died") else AgentError
            raise kind(plain(content["error"]))
        return Reply(verb=verb, content=content, log=log, boot=self.boot)


def _is_heartbeat(line: Line) -> bool:
    return line.sequence == 0 and isinstance(line.content, dict) and "busy" in line.content
