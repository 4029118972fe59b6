"""The agent in the guest, called over its serial port."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import pexpect

from pytest_memtype.errors import (
    AgentError,
    BootError,
    ModuleMissing,
    ModuleNotLoaded,
    NotAllowed,
    ProcessDied,
    UsageError,
)
from pytest_memtype.guest.mailbox import Mailbox
from pytest_memtype.guest.protocol import (
    DamagedLine,
    ForeignLine,
    Line,
    decode_line,
    encode_request,
    new_token,
    plain,
)
from pytest_memtype.machine.interface import AgentHost
from pytest_memtype.machine.machine import qemu_of
from pytest_memtype.machine.state import GuestState
from pytest_memtype.machine.timeouts import BOOT, COMMAND, HEARTBEAT
from pytest_memtype.machine.wait import deadline_after

_T = TypeVar("_T")

_NONSENSE = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError)
"""What comes of taking apart an answer of a guest that means ill, or is broken."""

_LONGEST = 16 << 20
"""Bytes of an answer. The agent cuts what a command prints at 256 KiB, which take six times that at most."""

_ATTEMPTS = 3
"""How often a request is sent: a line that loses characters three times is broken."""


@dataclass(frozen=True)
class Reply:
    """What the agent answered.

    :param verb: The request's.
    :param content: The decoded JSON.
    :param log: The kernel's messages since the reply before, sanitised.
    """

    verb: str
    content: Any
    log: tuple[str, ...]

    def decode(self, decoder: Callable[[Any], _T]) -> _T:
        """The content as something better than JSON.

        :raises AgentError: the guest answered something that makes no sense.
        """
        try:
            return decoder(self.content)
        except _NONSENSE as error:
            raise AgentError(
                f"the agent's answer to {self.verb!r} makes no sense: {type(error).__name__}: {error}"
            ) from None


StandIn = Callable[[str, dict[str, str | int]], Reply]
"""What answers calls in the place of a guest."""


class Agent:
    """The agent of one machine.

    :param timeout: Seconds that it has for one request.
    :param heartbeat: Seconds that it may be silent during a request: an agent that is busy says so once a
        second, so one that doesn't is in a guest that hangs.
    :param sequence: Number of the last request it has carried out: of a clone, its template's.
    :param stub: What answers in its place, as in a dry run.
    :ivar log: All messages of the kernel so far, sanitised.
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
        self._sequence = sequence
        self._stand_in = stub

    def greet(self, *, timeout: float = BOOT) -> Reply:
        """Wait until the agent of a guest that boots says it is there.

        :raises BootError: it says that it can't do its work.
        :raises GuestError: the guest ended or hung first.
        """
        self.machine.agent_port.purpose = "the agent's greeting"
        deadline = deadline_after(timeout)
        while True:
            try:
                content = self._line(deadline, limit=timeout).content
                break
            except ForeignLine:
                continue
            except DamagedLine:
                return self.call("hello")
        self.machine.activity = GuestState.READY
        if isinstance(content, dict) and "error" in content:
            said = plain(content.get("kernel_says", ""))
            also = f" (the kernel says: {said})" if said else ""
            message = f"the agent can't start: {plain(content['error'])}{also}"
            if "module_errno" in content:
                raise ModuleNotLoaded(message, errno=int(content["module_errno"]), kernel_says=said)
            raise BootError(message)
        return Reply(verb="greeting", content=content, log=())

    @property
    def sequence(self) -> int:
        """Number of the last request."""
        return self._sequence

    def call(self, verb: str, **fields: str | int) -> Reply:
        """Have the agent carry out a request, exactly once.

        A damaged line in either direction makes the request be sent again, with the same sequence
        number: the agent answers it from memory if it was carried out.

        :raises AgentError: the agent could not carry it out, or the line is broken; its subclass
            ``ProcessDied``: the process that should have done it died.
        :raises GuestError: the guest ended or hung.
        """
        if self._stand_in is not None:
            return self._stand_in(verb, fields)
        self._sequence += 1
        token = new_token()
        try:
            request = encode_request(self._sequence, token, verb, fields)
        except ValueError as error:
            raise UsageError(str(error)) from None
        self.machine.agent_port.purpose = f"the answer to {verb!r}"
        self.machine.activity = GuestState.BUSY
        deadline = deadline_after(self.timeout)
        for _attempt in range(_ATTEMPTS):
            self.note(request)
            self.machine.agent_port.send(request)
            line = self._answer(token, deadline)
            if line is not None:
                self.machine.activity = GuestState.READY
                return self.accept(verb, line.content)
        raise AgentError(f"the agent's serial line damaged the request {verb!r} {_ATTEMPTS} times")

    @contextlib.contextmanager
    def answered_by(self, stub: StandIn) -> Iterator[None]:
        """Have ``stub`` answer all calls in place of the guest, until the end of the block."""
        before, self._stand_in = self._stand_in, stub
        try:
            yield
        finally:
            self._stand_in = before

    @functools.cached_property
    def mailbox(self) -> Mailbox:
        """The guest's memory for long messages.

        :raises HostError: this host doesn't let a process look into its child.
        :raises Unavailable: it runs on no QEMU of ours.
        """
        memory = qemu_of(self.machine).memory
        reply = self.call("mailbox")
        return reply.decode(lambda content: Mailbox(memory, content["runs"]))

    def forget_memory(self) -> None:
        """The guest has moved to another QEMU, and its memory with it."""
        self.__dict__.pop("mailbox", None)

    def note(self, line: bytes) -> None:
        """Log what the guest is sent; QEMU's own log of the port has only what it sent."""
        with (self.machine.logs / "requests.log").open("ab") as log:
            log.write(line)

    def _answer(self, token: str, deadline: float) -> Line | None:
        """The line that answers the present request, None when the request or the answer was damaged."""
        purpose = self.machine.agent_port.purpose
        busy = False
        while True:
            silent = deadline_after(self.heartbeat)
            is_last = deadline <= silent
            if busy:
                how = "lives, and is still busy with it" if is_last else "was busy with it, and fell silent"
                self.machine.agent_port.purpose = f"{purpose}; the agent {how}"
            try:
                line = self._line(deadline, limit=self.timeout, silence=self.heartbeat)
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

    def _line(self, deadline: float, *, limit: float, silence: float | None = None) -> Line:
        """The next line. Neither time counts while more of it comes: TCG's serial line takes 0.2 MB/s.

        :param limit: Seconds that all had until the deadline, for the message of an error.
        :param silence: Seconds within which a part of it has to come.
        """
        port = self.machine.agent_port
        seen = 0
        while True:
            remaining = max(0.0, deadline - deadline_after(0))
            wait = remaining if silence is None else min(remaining, silence)
            index = port.expect_exact([b"\n", pexpect.TIMEOUT], timeout=wait)
            # At the deadline it is all that has come since the line before.
            said = port.before or b""
            if index == 0:
                return decode_line(said)
            if len(said) == seen:
                # What is left of the whole time says nothing to anybody.
                raise port.silent(silence if wait == silence else limit)
            seen = len(said)
            if seen > _LONGEST:
                raise AgentError(
                    f"{port.purpose} is longer than {_LONGEST >> 20} MiB, which no agent of ours sends"
                )
            deadline = max(deadline, deadline_after(self.heartbeat))

    def accept(self, verb: str, answer: Any) -> Reply:
        """Take the agent's answer to a request.

        :param answer: Decoded JSON, of ``log`` and ``reply``.
        :raises AgentError: the agent could not carry it out, or the answer makes no sense.
        :raises ModuleMissing: it needs the module, and the guest has none.
        :raises NotAllowed: the guest is somebody's machine, who has not allowed that.
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
        return Reply(verb=verb, content=content, log=log)


def _is_heartbeat(line: Line) -> bool:
    return line.sequence == 0 and isinstance(line.content, dict) and "busy" in line.content
