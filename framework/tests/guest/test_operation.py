"""Operations, with a function that answers in place of an agent."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from pytest_memtype import Driver, Guest, Process
from pytest_memtype.errors import AgentError
from pytest_memtype.guest.agent import Agent, Reply
from pytest_memtype.guest.operation import Steps, ask, operation, steps_of
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.target.dry_run import DryMachine


class Asker:
    """Something that has an agent.

    :ivar calls: How often the operation was called.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.calls = 0

    @operation
    def length(self, word: str, *, times: int = 1) -> Steps[int | None]:
        """The length of a word."""
        self.calls += 1
        try:
            reply = yield from ask("length", word=word)
        except AgentError:
            return None
        return reply.decode(lambda content: times * int(content))


@pytest.fixture
def asker(tmp_path: Path) -> Asker:
    def answer(verb: str, fields: dict[str, str | int]) -> Reply:
        if not fields["word"]:
            raise AgentError("there is no word")
        return Reply(verb, len(str(fields["word"])), ())

    return Asker(Agent(DryMachine(tmp_path, Hardware()), stub=answer))


def test_a_call_carries_it_out_at_once(asker: Asker) -> None:
    assert asker.length("three", times=2) == 10
    assert asker.calls == 1


def test_the_agent_s_error_is_raised_where_it_was_asked(asker: Asker) -> None:
    assert asker.length("") is None


def test_its_steps_wait_for_the_answer(asker: Asker) -> None:
    steps = steps_of(asker.length, "three")
    assert steps is not None
    request = next(steps)
    assert (request.verb, request.fields) == ("length", {"word": "three"})
    request.answer = lambda: Reply("length", 5, ())
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert (end.value.value, asker.calls) == (5, 1)


def test_another_function_has_no_steps_and_is_not_called() -> None:
    assert steps_of(pytest.fail, "it was called") is None
    assert steps_of("three".index, "four") is None


def test_help_tells_what_a_call_returns() -> None:
    for method in (Driver.ioremap, Process.read, Guest.verify):
        assert inspect.getdoc(method)
        assert "Steps" not in str(inspect.signature(method))
    signature = "(self, mapping: 'Mapping', registers: 'HoldsPat') -> 'tuple[Leaves, ...]'"
    assert str(inspect.signature(Driver.leaves)) == signature
