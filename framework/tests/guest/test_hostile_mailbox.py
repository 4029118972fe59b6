"""Answers that go through the mailbox and make no sense are one error each, and no wait for ever.

The mailbox is a real guest's. Who answers in place of its agent is a function here.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import pytest

from pytest_memtype import Guest, MemType
from pytest_memtype.errors import AgentError
from pytest_memtype.guest.agent import Agent, Reply
from pytest_memtype.guest.batch import Batch
from pytest_memtype.guest.results import TypeInUse
from pytest_memtype.guest.transfer import get_file, put_file

pytestmark = pytest.mark.shared_guest

WC = MemType.WC

#: Questions that are enough for each honest answer here. A loop that has no end asks more.
ENOUGH = 50

Answers = Callable[[str, dict[str, str | int]], Any]


def lying(guest: Guest, answers: Answers, *, mailbox: Any = None) -> Agent:
    """An agent of the guest's machine whose answers are a function's; the mailbox's place is the true one."""
    place = guest._agent.call("mailbox").content if mailbox is None else mailbox
    asked = []

    def answer(verb: str, fields: dict[str, str | int]) -> Reply:
        asked.append(verb)
        assert len(asked) < ENOUGH, "an answer that makes no sense is asked for again and again"
        return Reply(verb, place if verb == "mailbox" else answers(verb, fields), ())

    return Agent(guest.machine, stub=answer)


def notice(guest: Guest, message: bytes, **more: Any) -> dict[str, Any]:
    """Leave a message in the mailbox, and what the agent says of it."""
    return {**guest._agent.mailbox.write(message), "total": len(message), **more}


def put(_guest: Guest, agent: Agent) -> None:
    put_file(agent, b"content", "/tmp/put")


def get(_guest: Guest, agent: Agent) -> bytes:
    return get_file(agent, "/tmp/get")


def batch(guest: Guest, agent: Agent) -> TypeInUse:
    """Ask one question in a batch."""
    return Batch(agent).add(guest.lookup, guest.mmio(pages=1)).result()


LOOKUP = b'{"log": [], "reply": {"errno": 0, "memtype": 1, "in_use": true}}\n'


def test_an_answer_that_makes_sense_is_taken(guest: Guest) -> None:
    """Else the others here could fail for another reason."""
    found = batch(guest, lying(guest, lambda *_: notice(guest, LOOKUP)))
    assert (found.memtype, found.in_use) == (WC, True)


@pytest.mark.parametrize(
    "answer",
    [
        b"\n",
        b"{\n",
        b"\xff\n",
        b"7\n",
        b'{"log": []}\n',
        b'{"log": 7, "reply": {}}\n',
        b"[" * 100_000 + b"\n",
    ],
    ids=["empty", "cut", "no text", "a number", "no reply", "no log", "too deep"],
)
def test_an_answer_in_a_batch_that_makes_no_sense_is_one_error(guest: Guest, answer: bytes) -> None:
    with pytest.raises(AgentError, match="the agent's answer to 'lookup' makes no sense") as error:
        batch(guest, lying(guest, lambda *_: notice(guest, answer)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "said",
    [
        7,
        [],
        {},
        {"length": 1, "crc": 0},
        {"length": 0, "crc": 0},
        {"length": "x", "crc": 0, "total": 0},
        {"length": -1, "crc": 0, "total": 0},
        {"length": 0, "crc": 0, "total": "x"},
        {"length": 0, "crc": 0, "total": -1},
        {"length": 0, "crc": 0, "total": 9},
        {"length": 0, "crc": 0, "total": 1 << 60},
        {"length": 1 << 60, "crc": 0, "total": 1 << 60},
    ],
    ids=str,
)
def test_a_notice_of_a_batch_that_makes_no_sense_is_one_error(guest: Guest, said: Any) -> None:
    """An agent that has more answers fills the mailbox; one with none left would be asked for ever."""
    with pytest.raises(AgentError):
        batch(guest, lying(guest, lambda *_: said))


@pytest.mark.parametrize("rest", [{"length": 0, "crc": 0}, {}, {"length": 1, "crc": zlib.crc32(b"x")}])
def test_the_rest_of_a_batch_has_to_come(guest: Guest, rest: dict[str, int]) -> None:
    full = b"x" * guest._agent.mailbox.size

    def answers(verb: str, _fields: object) -> Any:
        if verb == "batch":
            return notice(guest, full, total=1 << 22)
        return rest

    with pytest.raises(AgentError, match=r"makes no sense|gave [01] bytes"):
        batch(guest, lying(guest, answers))


@pytest.mark.parametrize(
    "runs",
    [
        {},
        {"runs": []},
        {"runs": 7},
        {"runs": [[0, 0]]},
        {"runs": [[1 << 20, 0], [1 << 20, 1]]},
        {"runs": [[1 << 20, -1]]},
        {"runs": [["x", 1]]},
        {"runs": [[1 << 20, 1, 1]]},
        {"runs": [[None, 1]]},
    ],
    ids=str,
)
@pytest.mark.parametrize("use", [put, get, batch])
def test_a_mailbox_without_room_is_one_error(
    guest: Guest, use: Callable[[Guest, Agent], object], runs: dict[str, Any]
) -> None:
    agent = lying(guest, lambda *_: {"length": 0, "crc": 0, "total": 0}, mailbox=runs)
    with pytest.raises(AgentError, match="the agent's answer to 'mailbox' makes no sense"):
        use(guest, agent)


@pytest.mark.parametrize(
    "said", [{}, 7, {"length": 0}, {"length": -1, "crc": 0}, {"length": "x", "crc": 0}], ids=str
)
def test_a_notice_of_a_file_that_makes_no_sense_is_one_error(guest: Guest, said: Any) -> None:
    with pytest.raises(AgentError):
        get_file(lying(guest, lambda *_: said), "/tmp/get")


@pytest.mark.parametrize(
    ("address", "why"),
    [
        (-4096, "makes no sense: .* isn't a number of 64 bits"),
        (1 << 50, "the agent's mailbox is no memory: .*the guest has no such RAM"),
        (1 << 70, "makes no sense: .* isn't a number of 64 bits"),
    ],
)
@pytest.mark.parametrize("use", [put, batch])
def test_a_mailbox_outside_of_the_guests_memory_is_one_error(
    guest: Guest, use: Callable[[Guest, Agent], object], address: int, why: str
) -> None:
    agent = lying(guest, lambda *_: {}, mailbox={"runs": [[address, 1]]})
    with pytest.raises(AgentError, match=why):
        use(guest, agent)
