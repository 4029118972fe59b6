"""Batches: thousands of operations at once, limited by the guest's speed and not by its serial port's."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, Self, TypeVar

from pytest_memtype.errors import AgentError, MemtypeError, ProcessFault, UsageError
from pytest_memtype.guest.agent import Agent, Reply
from pytest_memtype.guest.operation import Request, Steps, into, steps_of
from pytest_memtype.guest.outcome import Mapping, Outcome
from pytest_memtype.guest.protocol import REQUEST_LENGTH, request_text
from pytest_memtype.guest.region import Region, together
from pytest_memtype.guest.strict import integer
from pytest_memtype.machine.machine import Machine

_P = ParamSpec("_P")
_T = TypeVar("_T")

_REQUESTS = 500
"""Requests in a message. The agent has :attr:`Agent.timeout` for each, and answers when all are done."""

_PROMISES = itertools.count(1)
"""Numbers of promised mappings, each used once: a promise of one batch means nothing in another."""


class Pending(Generic[_T]):
    """An operation of a batch: what it will return or raise."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._promise: Mapping | None = None
        self._returned: list[_T] = []
        self._error: Exception | None = None

    def result(self) -> _T:
        """Return or raise what the operation did; carries out the batch so far, if need be."""
        if not self._returned and self._error is None:
            self._batch.flush()
        if self._error is not None:
            raise self._error
        return self._returned[0]

    def _abandon(self, error: Exception) -> None:
        """Give up the operation unless it is done: what ended the batch is what it raises."""
        if self._returned or self._error is not None:
            return
        self._error = error
        if self._promise is not None:
            _keep(self._promise, None)

    @property
    def mapping(self: Pending[Outcome]) -> Mapping:
        """The mapping that the operation is going to make, for operations of the same batch.

        Those operations raise AgentError when it made no mapping. After the batch it is as any other mapping.

        :raises UsageError: the operation isn't one that makes a mapping.
        """
        if self._promise is None:
            raise UsageError("batch: the operation makes no mapping that others could go by")
        return self._promise


@dataclass(frozen=True)
class _Queued:
    number: int
    request: Request
    text: bytes
    steps: Steps[None]
    pending: Pending[Any]


class Batch:
    """Operations of one guest, carried out in order when the block ends.

    ::

        with guest.batch() as batch:
            first = batch.add(drm.ioremap, bar, WC)
            second = batch.add(fbdev.ioremap, bar, UC_MINUS)
            batch.add(drm.release, first.mapping)
        assert second.result().verdict.rule == "alias"

    Outcomes and records are those of the same calls one by one. Any method can wait for the end of the block
    that asks the agent once: of a driver, a process or the guest. Any other function is called at once, after
    the operations before it.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._queue: list[_Queued] = []
        # By its promise, the number of the queued request that makes the mapping.
        self._promised: dict[int, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is None:
            self.flush()

    def add(self, operation: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> Pending[_T]:
        """Queue a call of an operation.

        :param operation: A method that asks the agent once, or any other function.
        :param *args: Its arguments; a mapping may be another operation's :attr:`Pending.mapping`.
        :param **kwargs: Its keyword arguments, likewise.
        :raises UsageError: the arguments can't be used.
        """
        pending: Pending[_T] = Pending(self)
        steps = steps_of(operation, *args, **kwargs)
        # The memory of a target can't be reached from outside: one by one.
        if steps is None or not isinstance(self._agent.machine, Machine):
            self.flush()
            self._call(pending, functools.partial(operation, *args, **kwargs))
            return pending
        queued = into(pending._returned, steps)
        request = next(queued, None)
        if request is not None:
            text = self._encode(request)
            # The agent counts from 1 on at each flush: other batches may have come in between.
            number = len(self._queue) + 1
            pending._promise = _promise(request, boot=self._agent.boot)
            if pending._promise is not None:
                self._promised[pending._promise.handle] = number
            self._queue.append(_Queued(number, request, text, queued, pending))
        return pending

    def _encode(self, request: Request) -> bytes:
        verb, fields = request.verb, request.fields
        handle = fields.get("handle")
        if isinstance(handle, int) and handle < 0:
            if handle not in self._promised:
                raise UsageError(f"{verb}: the mapping is promised by another batch, which has to end first")
            # The agent puts the handle in its place, once it has it.
            rest = {key: value for key, value in fields.items() if key != "handle"}
            text = request_text(verb, rest) + b" handle=#%d" % self._promised[handle]
        else:
            text = request_text(verb, fields)
        if len(text) >= REQUEST_LENGTH:
            raise UsageError(
                f"{verb}: a request of {len(text)} bytes is longer than the {REQUEST_LENGTH} there are"
            )
        return text

    def _call(self, pending: Pending[_T], function: Callable[[], _T]) -> None:
        try:
            value = function()
        except (AgentError, OSError, ProcessFault) as error:
            pending._error = error
            return
        pending._returned.append(value)
        if isinstance(value, Outcome):
            pending._promise = value.mapping

    def flush(self) -> None:
        """Carry out the queued operations.

        :raises GuestError: the guest ended or hung.
        """
        queue, self._queue = self._queue, []
        self._promised.clear()
        try:
            for part in _messages(queue, self._agent.mailbox.size if queue else 0):
                for queued, answer in zip(part, self._send(part), strict=True):
                    self._finish(queued, answer)
        except Exception as error:
            for each in queue:
                each.pending._abandon(error)
            raise

    def _send(self, part: list[_Queued]) -> list[bytes]:
        """The answers to some requests: lines of JSON."""
        mailbox = self._agent.mailbox
        message = b"\n".join(queued.text for queued in part)
        self._agent.note(message + b"\n")
        reply = self._agent.call("batch", first=part[0].number, **mailbox.write(message))
        total = reply.decode(lambda notice: integer(notice["total"]))
        if not 0 <= total <= self._agent.machine.hardware.memory_bytes:
            raise AgentError(
                f"the agent has {total} bytes of answers to a batch, more than its guest's memory"
            )
        answers = bytearray()
        while True:
            answers += self._part(reply, min(mailbox.size, total - len(answers)))
            if len(answers) == total:
                break
            reply = self._agent.call("batch_rest", offset=len(answers))
        lines = bytes(answers).splitlines()
        if len(lines) != len(part):
            raise AgentError(f"the agent gave {len(lines)} answers to a batch of {len(part)} requests")
        return lines

    def _part(self, reply: Reply, expected: int) -> bytes:
        """The answers in the mailbox. Each part fills it but the last, or the questions would have no end."""
        found = reply.decode(self._agent.mailbox.read)
        if len(found) != expected:
            raise AgentError(f"the agent gave {len(found)} bytes of a batch's answers instead of {expected}")
        return found

    def _finish(self, queued: _Queued, answer: bytes) -> None:
        """Go on with an operation, whose request is answered."""
        pending, request = queued.pending, queued.request

        def reply() -> Reply:
            content = Reply(request.verb, answer, ()).decode(json.loads)
            return self._agent.accept(request.verb, content)

        request.answer = reply
        try:
            another = next(queued.steps, None)
            assert another is None, f"an operation asks the agent more than once, {request.verb} first"
        except (MemtypeError, OSError, ProcessFault) as error:
            pending._error = error
        if pending._promise is not None:
            _keep(pending._promise, pending._returned[0].mapping if pending._returned else None)


def _messages(queue: Sequence[_Queued], most: int) -> Iterator[list[_Queued]]:
    """Cut a queue into messages of so many bytes at most, a new line behind each request counted."""
    part: list[_Queued] = []
    size = 0
    for each in queue:
        if part and (len(part) == _REQUESTS or size + len(each.text) + 1 > most):
            yield part
            part, size = [], 0
        part.append(each)
        size += len(each.text) + 1
    if part:
        yield part


def _keep(promise: Mapping, made: Mapping | None) -> None:
    """Make a promised mapping the one that was made, for everybody who has it."""
    # So far it meant nothing outside of its batch; from now on it never changes. No mapping has handle 0.
    object.__setattr__(promise, "handle", made.handle if made else 0)
    object.__setattr__(promise, "address", made.address if made else 0)


def _promise(request: Request, *, boot: int) -> Mapping | None:
    """The mapping that a request is going to make. Its handle is a number of its own, negative."""
    verb, fields = request.verb, request.fields
    kind, actor_field = ("user", "process") if verb == "mmap" else ("kernel", "owner")
    if not {"start", "pages", "memtype", actor_field} <= fields.keys():
        return None
    return Mapping(kind, str(fields[actor_field]), -next(_PROMISES), _region(fields), boot=boot)


def _region(fields: dict[str, str | int]) -> Region:
    """The memory that a request asks for, equal to that of the mapping: the journal finds it by that."""
    if "pieces" not in fields:
        return Region(int(fields["start"]), int(fields["pages"]))
    pieces = (each.split("+") for each in str(fields["pieces"]).split(","))
    return together(Region(int(start, 16), int(pages)) for start, pages in pieces)
