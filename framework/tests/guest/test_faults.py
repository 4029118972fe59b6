"""Functions of the kernel that are told to fail."""

from __future__ import annotations

import errno
from types import SimpleNamespace

import pytest

from pytest_memtype import Guest, MemType
from pytest_memtype.errors import AgentError, GuestError, GuestExited, GuestHung, UsageError
from pytest_memtype.guest.agent import Agent, Reply
from pytest_memtype.guest.faults import Fault, FaultCounts
from pytest_memtype.machine.state import GuestState

pytestmark = pytest.mark.shared_guest

WC = MemType.WC


def test_a_driver_s_ioremap_fails_as_often_as_told(guest: Guest) -> None:
    """memtype_reserve() returns 0 or an errno (arch/x86/mm/pat/memtype.c, 5.6 on)."""
    bar = guest.mmio(pages=1)
    driver = guest.driver("drm")
    with guest.faults.fail("memtype_reserve", after=1, times=2, returns=-errno.ENOMEM) as fault:
        outcomes = [driver.ioremap(bar, WC) for _ in range(4)]
        assert fault.counts == FaultCounts(calls=4, failed=2)
    again = driver.ioremap(bar, WC)
    assert [each.kernel is not None and each.kernel.accepted for each in [*outcomes, again]] == [
        True,
        False,
        False,
        True,
        True,
    ]
    # What the kernel refused isn't counted, and Linux has an entry for each that it did not.
    assert len(guest.tracked(bar)) == len(guest.memtype_list(bar)) == 3
    with pytest.raises(AgentError, match="there is no fault"):
        fault.disarm()


def test_one_process_fails_and_another_does_not(guest: Guest) -> None:
    """remap_pfn_range() makes EINVAL of every failure to reserve a type (mm/memory.c, 5.10 to 7.3)."""
    bar = guest.mmio(pages=4)
    unlucky, lucky = guest.process("unlucky"), guest.process("lucky")
    with guest.faults.fail("memtype_reserve", task=unlucky, returns=-errno.EBUSY) as fault:
        assert not fault.counts.calls
        first, second = lucky.mmap(bar, WC), unlucky.mmap(bar, WC)
        assert fault.counts == FaultCounts(calls=1, failed=1)
    assert first.accepted
    assert second.kernel is not None
    assert second.kernel.errno == errno.EINVAL
    assert [record.owner for record in guest.tracked(bar)] == ["lucky"]


@pytest.mark.parametrize("error", [AgentError, OSError, ZeroDivisionError, pytest.fail.Exception])
def test_a_block_that_an_error_ends_disarms_too(guest: Guest, error: type[BaseException]) -> None:
    """What a function that fails provokes is an error, and what comes after the block wants the function."""
    bar = guest.mmio(pages=1)
    driver = guest.driver("drm")
    fault = guest.faults.fail("memtype_reserve", times=1000, returns=-errno.ENOMEM)
    assert driver.ioremap(bar, WC).kernel.rejected
    with pytest.raises(error, match="of the block's own"), fault:
        raise error("of the block's own")
    assert driver.ioremap(bar, WC).kernel.accepted
    with pytest.raises(AgentError, match="there is no fault"):
        fault.disarm()


def test_a_count_ends_with_a_block_that_an_error_ends(guest: Guest) -> None:
    with pytest.raises(ZeroDivisionError), guest.kernel.count("memtype_reserve") as counted:
        raise ZeroDivisionError
    with pytest.raises(AgentError, match="there is no fault"):
        counted.disarm()


def test_the_error_of_a_block_stays_its_own(guest: Guest) -> None:
    """The fault is disarmed already, which is an AgentError of its own."""
    fault = guest.faults.fail("memtype_reserve")
    fault.disarm()
    with pytest.raises(ZeroDivisionError), fault:
        raise ZeroDivisionError


@pytest.mark.parametrize(("kind", "asked"), [(GuestExited, 2), (GuestHung, 1)])
def test_a_guest_that_is_gone_keeps_its_own_error(kind: type[GuestError], asked: int) -> None:
    """One that hangs isn't asked again: each question takes as long as an answer may."""
    machine = SimpleNamespace(activity=GuestState.READY)
    calls = []

    def gone(verb: str, _fields: dict[str, str | int]) -> Reply:
        calls.append(verb)
        machine.activity = GuestState.HUNG if kind is GuestHung else GuestState.BUSY
        raise kind(f"the answer to {verb}")

    agent = Agent(machine, stub=gone)
    with pytest.raises(kind, match="the answer to hello"), Fault(agent, "memtype_reserve", 1):
        agent.call("hello")
    assert calls == ["hello", "fault_end"][:asked]


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("no_such_function", "no function of that name; the compiler may have inlined it"),
        # On the kernel's list of functions that probes themselves need.
        ("kprobe_int3_handler", "the kernel forbids a probe there"),
    ],
)
def test_what_can_not_be_probed_says_so(guest: Guest, function: str, reason: str) -> None:
    with pytest.raises(UsageError, match=f"faults: {function} can't be made to fail: .*{reason}"):
        guest.faults.fail(function)


def test_bad_numbers(guest: Guest) -> None:
    with pytest.raises(UsageError, match="must be at least 1"):
        guest.faults.fail("memtype_reserve", times=0)
    with pytest.raises(UsageError, match="must be at least 1"):
        guest.faults.fail("memtype_reserve", after=-1)


def test_a_reset_disarms(guest: Guest) -> None:
    """A shared guest is reset between its tests: this one leaves a fault behind, the next must not see it."""
    guest.faults.fail("memtype_reserve", times=1000, returns=-errno.ENOMEM)
    guest._agent.call("reset")
    outcome = guest.driver("drm").ioremap(guest.mmio(pages=1), WC)
    assert outcome.accepted
