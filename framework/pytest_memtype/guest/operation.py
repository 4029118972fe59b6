"""Operations: methods that ask the agent once, written so that a batch can put off the question.

An operation is a generator. It yields its request, and goes on when that is answered::

    @operation
    def zap(self, region: Region) -> Steps[None]:
        reply = yield from ask("zap", start=region.start, pages=region.pages)
        self._journal.done("zap", ..., log=reply.log)

Who calls the method gets what the generator returns. A batch takes the generator itself, :func:`steps_of`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from types import MethodType
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from pytest_memtype.guest.agent import Agent, Reply

_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass
class Request:
    """A request to the agent.

    :param verb: The request.
    :param fields: Its arguments, as of :meth:`Agent.call`.
    :ivar answer: Returns the agent's reply or raises its error; set by whoever carries out the request.
    """

    verb: str
    fields: dict[str, str | int]
    answer: Callable[[], Reply] = field(init=False)


Steps = Generator[Request, None, _T]
"""An operation that was called, and goes from question to question until it returns."""


class _Actor(Protocol):
    _agent: Agent


_Self = TypeVar("_Self", bound=_Actor)

_STEPS: dict[object, Callable[..., Steps[Any]]] = {}
"""The generators behind the operations, by the functions that carry them out."""


def ask(verb: str, **fields: str | int) -> Steps[Reply]:
    """Ask the agent, for ``yield from`` in an operation; it raises what :meth:`Agent.call` does.

    In a batch it returns when those before are carried out: a promised mapping has its handle only then.

    :param verb: The request.
    :param **fields: Its arguments.
    """
    request = Request(verb, fields)
    yield request
    return request.answer()


def operation(method: Callable[Concatenate[_Self, _P], Steps[_T]]) -> Callable[Concatenate[_Self, _P], _T]:
    """Make a generator a method that carries it out at once, and that a batch can queue.

    :param method: The generator, a method of something that has an agent.
    """

    @functools.wraps(method)
    def carried_out(actor: _Self, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return carry_out(actor._agent, method(actor, *args, **kwargs))

    # For help(): who calls the method gets what the generator returns.
    returns = method.__annotations__["return"].removeprefix("Steps[").removesuffix("]")
    carried_out.__dict__["__signature__"] = inspect.signature(method).replace(return_annotation=returns)
    _STEPS[carried_out] = method
    return carried_out


def carry_out(agent: Agent, steps: Steps[_T]) -> _T:
    """Carry out an operation now.

    :param agent: Answers its requests.
    :param steps: The operation.
    """
    returned: list[_T] = []
    for request in into(returned, steps):
        request.answer = functools.partial(agent.call, request.verb, **request.fields)
    return returned[0]


def into(returned: list[_T], steps: Steps[_T]) -> Steps[None]:
    """Go through an operation and keep what it returns, which a loop over its requests doesn't see.

    :param returned: Gets the value when the operation ends.
    :param steps: The operation.
    """
    returned.append((yield from steps))


def steps_of(method: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> Steps[_T] | None:
    """Call an operation without carrying out anything of it.

    :param method: A method of a driver, a process or the guest; or any other function, which isn't called.
    :param *args: Its arguments.
    :param **kwargs: Its keyword arguments.
    :returns: The operation; None for another function.
    """
    if not isinstance(method, MethodType) or method.__func__ not in _STEPS:
        return None
    return _STEPS[method.__func__](method.__self__, *args, **kwargs)
