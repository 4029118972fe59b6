"""Machines whose policy doesn't let the module in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from memtype_support.hand_started import MEMORY, HandStarted, hand_started, one_line

from pytest_memtype import MemType
from pytest_memtype.errors import ModuleNotLoaded, ModuleRefused, NotAllowed
from pytest_memtype.guest.agent import Agent
from pytest_memtype.target.target import Target

pytestmark = [pytest.mark.timeout(1800), pytest.mark.xdist_group("target")]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[HandStarted]:
    """One for each test: lockdown and the signature policy have no way back."""
    (tmp_path / "machine").mkdir()
    with hand_started(tmp_path / "machine") as made:
        yield made


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("echo integrity > /sys/kernel/security/lockdown", "lockdown is integrity"),
        ("echo Y > /sys/module/module/parameters/sig_enforce", "wants a signed one"),
    ],
    ids=["lockdown", "signatures"],
)
def test_a_module_that_is_refused(
    machine: HandStarted, target: Callable[..., Target], policy: str, message: str
) -> None:
    machine.run(policy)
    with pytest.raises(ModuleRefused, match=message) as raised:
        target().guest()
    one_line(raised.value)
    assert machine.left() == ""


def test_without_its_module_the_agent_allows_nothing(
    machine: HandStarted, target: Callable[..., Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who speaks to the agent, and goes on where it has said that it can't start, gets no memory."""
    machine.run("echo Y > /sys/module/module/parameters/sig_enforce")
    greet = Agent.greet
    refused = []

    def go_on(agent: Agent, *, timeout: float) -> None:
        with pytest.raises(ModuleNotLoaded) as refusal:
            greet(agent, timeout=timeout)
        agent.call("process", name="P", uid=0)
        where = {"start": MEMORY, "pages": 1}
        for verb, fields in (
            ("mmap", {"via": "sysfs", **where, "memtype": int(MemType.WC)}),
            ("mmap", {"via": "devmem", **where, "memtype": int(MemType.UC_MINUS)}),
            ("mtrr_add", {"base": MEMORY, "size": 4096, "memtype": int(MemType.WC), "held": 0}),
            ("mtrr_delete", {"index": 0}),
        ):
            with pytest.raises(NotAllowed):
                agent.call(verb, process="P", **fields)
            refused.append(verb)
        raise refusal.value

    monkeypatch.setattr(Agent, "greet", go_on)
    before = machine.run("cat /proc/mtrr")
    with pytest.raises(ModuleRefused):
        target().guest()
    assert len(refused) == 4
    assert machine.run("cat /proc/mtrr") == before
    assert machine.left() == ""
