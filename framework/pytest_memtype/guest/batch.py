"""Batches: thousands of operations at once, limited by the guest's speed and not by its serial port's."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, Self, TypeVar

from pytest_memtype.errors import AgentError, MemtypeError, ProcessFault, UsageError
from pytest_memtype.guest.agent import Agent, Reply
from pytest_memtype.guest.outcome import Mapping, Outcome
from pytest_memtype.guest.protocol import REQUEST_LENGTH, request_text
from pytest_memtype.guest.region import Region
from pytest_memtype.machine.machine import Machine

_P = ParamSpec("_P")
_T = TypeVar("_T")

_REQUESTS = 500
"""Requests in a message. The agent has :attr:`Agent.timeout` for each, and answers when all are done."""

Fields = dict[str, str | int]


class _Asked(BaseException):
    """Raised to leave an operation at the point where it asks the agent."""

    def __init__(self, verb: str, fields: Fields) -> None:
        self.verb = verb
        self.fields = fields


class Pending(Generic[_T]):
    """An operation of a batch: what it will return or raise."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._promise: Mapping | None = None
        self._value: list[_T] = []
        self._error: Exception | None = None

    def result(self) -> _T:
        """Return or raise what the operation did; carries out the batch so far, if need be."""
        if not self._value and self._error is None:
            self._batch.flush()
        if self._error is not None:
            raise self._error
        return self._value[0]

    @property
    def mapping(self: Pending[Outcome]) -> Mapping:
        """The mapping that the operation is going to make, for operations of the same batch.

        Those operations raise AgentError when it made no mapping.

        :raises UsageError: the operation isn't one that makes a mapping.
        """
        if self._promise is None:
            raise UsageError("batch: the operation makes no mapping that others could go by")
        return self._promise


@dataclass(frozen=True)
class _Queued(Generic[_T]):
    number: int
    operation: Callable[..., _T]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    verb: str
    text: bytes
    pending: Pending[_T]


class Batch:
    """Operations of one guest, carried out in order when the block ends.

    ::

        with guest.batch() as batch:
            first = batch.add(drm.ioremap, bar, WC)
            second = batch.add(fbdev.ioremap, bar, UC_MINUS)
            batch.add(drm.release, first.mapping)
        assert second.result().verdict.rule == "alias"

    Outcomes and records are those of the same calls one by one. Any method can be added that asks the agent
    once: of a driver, a process or the guest. It is called twice: first up to its question, then, when all
    questions are answered, from the start to its end.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._queue: list[_Queued[Any]] = []
        self._numbers = itertools.count(1)
        self._made: dict[int, Mapping] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is None:
            self.flush()

    def add(self, operation: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> Pending[_T]:
        """Queue a call of an operation.

        :param operation: A method that asks the agent once.
        :param *args: The method's arguments; a mapping may be another operation's :attr:`Pending.mapping`.
        :param **kwargs: The method's keyword arguments, likewise.
        :raises UsageError: the arguments can't be used.
        """
        pending: Pending[_T] = Pending(self)
        if not isinstance(self._agent.machine, Machine):
            # The memory of a target can't be reached from outside: one by one.
            self._carry_out(pending, functools.partial(operation, *args, **kwargs))
            return pending
        try:
            with self._agent.answered_by(_ask):
                pending._value.append(operation(*args, **kwargs))
        except _Asked as asked:
            text = _encode(asked.verb, asked.fields)
            number = next(self._numbers)
            pending._promise = _promised(number, asked.verb, asked.fields)
            self._queue.append(_Queued(number, operation, args, kwargs, asked.verb, text, pending))
        return pending

    def _carry_out(self, pending: Pending[_T], operation: Callable[[], _T]) -> None:
        try:
            value = operation()
        except (AgentError, OSError, ProcessFault) as error:
            pending._error = error
            return
        pending._value.append(value)
        if isinstance(value, Outcome):
            pending._promise = value.mapping

    def flush(self) -> None:
        """Carry out the queued operations.

        :raises GuestError: the guest ended or hung.
        """
        queue, self._queue = self._queue, []
        for start in range(0, len(queue), _REQUESTS):
            part = queue[start : start + _REQUESTS]
            for queued, answer in zip(part, self._send(part), strict=True):
                self._finish(queued, answer)

    def _send(self, part: list[_Queued[Any]]) -> list[Any]:
        """The answers to some requests: lines of JSON."""
        mailbox = self._agent.mailbox
        message = b"\n".join(queued.text for queued in part)
        self._agent.note(message + b"\n")
        notice = self._agent.call("batch", first=part[0].number, **mailbox.write(message)).content
        answers = mailbox.read(notice)
        while len(answers) < notice["total"]:
            answers += mailbox.read(self._agent.call("batch_rest", offset=len(answers)).content)
        lines = answers.splitlines()
        if len(lines) != len(part):
            raise AgentError(f"the agent gave {len(lines)} answers to a batch of {len(part)} requests")
        return lines

    def _finish(self, queued: _Queued[_T], answer: bytes) -> None:
        """Call an operation again: this time its question is answered."""
        pending = queued.pending
        answers = [answer]

        def reply(verb: str, _fields: Fields) -> Reply:
            if not answers:
                raise UsageError(
                    f"batch: an operation asks the agent more than once, {queued.verb} and {verb}"
                )
            return self._agent.accept(verb, json.loads(answers.pop()))

        args = [self._fulfilled(each) for each in queued.args]
        kwargs = {name: self._fulfilled(each) for name, each in queued.kwargs.items()}
        try:
            with self._agent.answered_by(reply):
                value = queued.operation(*args, **kwargs)
        except (MemtypeError, OSError, ProcessFault) as error:
            pending._error = error
            return
        pending._value.append(value)
        if isinstance(value, Outcome) and value.mapping is not None:
            self._made[queued.number] = value.mapping

    def _fulfilled(self, argument: Any) -> Any:
        """The mapping itself in place of a promised one, if it was made; any other argument as it is."""
        if isinstance(argument, Mapping) and argument.handle < 0:
            return self._made.get(-argument.handle, argument)
        return argument


def _ask(verb: str, fields: Fields) -> Reply:
    raise _Asked(verb, fields)


def _promised(number: int, verb: str, fields: Fields) -> Mapping | None:
    """The mapping that a request is going to make. Its handle is the request's number, negative."""
    kind, holder = ("user", "process") if verb == "mmap" else ("kernel", "owner")
    if not {"start", "pages", "memtype", holder} <= fields.keys():
        return None
    return Mapping(kind, str(fields[holder]), -number, Region(int(fields["start"]), int(fields["pages"])))


def _encode(verb: str, fields: Fields) -> bytes:
    handle = fields.get("handle")
    if isinstance(handle, int) and handle < 0:
        # The agent puts the handle in its place, once it has it.
        rest = {key: value for key, value in fields.items() if key != "handle"}
        text = request_text(verb, rest) + b" handle=#%d" % -handle
    else:
        text = request_text(verb, fields)
    if len(text) >= REQUEST_LENGTH:
        raise UsageError(
            f"{verb}: a request of {len(text)} bytes is longer than the {REQUEST_LENGTH} there are"
        )
    return text
