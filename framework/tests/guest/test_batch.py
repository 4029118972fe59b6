"""Batches, in a real guest that all tests of this file share."""

from __future__ import annotations

import copy
import dataclasses
import json
from typing import Any

import pytest

from pytest_memtype import Driver, Guest, MemType, Outcome, Region, TrackedMapping
from pytest_memtype.errors import AgentError, ProcessFault, UsageError

pytestmark = pytest.mark.shared_guest

WC, UC_MINUS, WB = MemType.WC, MemType.UC_MINUS, MemType.WB


def without_handle(outcome: Outcome) -> Outcome:
    """The outcome, but for the number and the address that no two mappings share."""
    if outcome.mapping is None:
        return outcome
    mapping = dataclasses.replace(outcome.mapping, handle=0)
    return dataclasses.replace(outcome, mapping=mapping, address=0)


def without_address(mapping: TrackedMapping) -> TrackedMapping:
    return dataclasses.replace(mapping, address=0)


def steps(guest: Guest, since: int) -> list[dict[str, Any]]:
    """The records from a point on, but for what no two runs share."""
    entries = copy.deepcopy(guest.journal.entries[since:])
    for entry in entries:
        for own in ("step", "handle", "address"):
            entry.pop(own, None)
        entry.get("arguments", {}).pop("handle", None)
    return entries


def test_outcomes_and_records_are_those_of_single_calls(guest: Guest) -> None:
    bar = guest.mmio(pages=8)
    drm, fbdev, process = guest.driver("drm"), guest.driver("fbdev"), guest.process("single")

    start = len(guest.journal.entries)
    first = drm.ioremap(bar, WC)
    second = fbdev.ioremap(bar[2:3], UC_MINUS)
    third = process.mmap(bar[4:], WC)
    verdict = guest.verify(bar, WB)
    assert first.mapping is not None
    assert second.mapping is not None
    assert third.mapping is not None
    # From its end to its start: Linux loses count of a part that others follow (memtype_erase() in
    # arch/x86/mm/pat/memtype_interval.c), and what is left of one turn would be seen in the next.
    process.munmap(third.mapping, offset=3)
    process.munmap(third.mapping, offset=1, pages=2)
    tracked = guest.tracked(bar)
    drm.release(first.mapping)
    fbdev.release(second.mapping)
    process.munmap(third.mapping, offset=0, pages=1)
    alone = steps(guest, start)

    start = len(guest.journal.entries)
    with guest.batch() as batch:
        one = batch.add(drm.ioremap, bar, WC)
        two = batch.add(fbdev.ioremap, bar[2:3], UC_MINUS)
        three = batch.add(process.mmap, bar[4:], WC)
        four = batch.add(guest.verify, bar, WB)
        batch.add(process.munmap, three.mapping, offset=3)
        batch.add(process.munmap, three.mapping, offset=1, pages=2)
        five = batch.add(guest.tracked, bar)
        batch.add(drm.release, one.mapping)
        batch.add(fbdev.release, two.mapping)
        batch.add(process.munmap, three.mapping, offset=0, pages=1)

    outcomes = (one.result(), two.result(), three.result())
    assert [*map(without_handle, outcomes)] == [*map(without_handle, (first, second, third))]
    assert four.result() == verdict
    assert [*map(without_address, five.result())] == [*map(without_address, tracked)]
    assert steps(guest, start) == alone
    assert guest.tracked(bar) == ()
    process.exit()


def test_thousands_of_operations_come_back_in_order(guest: Guest) -> None:
    """More than one message, and more answers than the mailbox holds at once."""
    bar = guest.mmio(pages=64)
    drm = guest.driver("drm")
    with guest.batch() as batch:
        mapped = [batch.add(drm.ioremap, bar[n % 64], (WC, UC_MINUS)[n % 2]) for n in range(1500)]
        for each in mapped:
            batch.add(drm.release, each.mapping)
    outcomes = [each.result() for each in mapped]
    assert [each.region for each in outcomes] == [bar[n % 64] for n in range(1500)]
    assert all(each.accepted for each in outcomes)
    handles = [each.mapping.handle for each in outcomes if each.mapping]
    assert len(set(handles)) == 1500
    assert guest.tracked(bar) == ()


def test_an_answer_longer_than_the_mailbox_arrives_whole(guest: Guest) -> None:
    with guest.batch() as batch:
        batch.add(guest.shell, "true")
        outputs = [batch.add(guest.shell, "seq 40000") for _ in range(5)]
    expected = "".join(f"{n}\n" for n in range(1, 40001))
    assert all(each.result().output == expected for each in outputs)


def test_an_operation_that_fails_stops_no_other(guest: Guest) -> None:
    bar = guest.mmio(pages=2)
    drm = guest.driver("drm")
    guest.policy.enforce = True
    with guest.batch() as batch:
        one = batch.add(drm.ioremap, bar, WC)
        refused = batch.add(drm.ioremap, bar, UC_MINUS)
        without = batch.add(drm.release, refused.mapping)
        released = batch.add(drm.release, one.mapping)
        twice = batch.add(drm.release, one.mapping)
        last = batch.add(guest.lookup, bar)
    guest.policy.enforce = False
    assert refused.result().verdict.rule == "alias"
    with pytest.raises(AgentError, match="request 3 of the batch names a request that has made no mapping"):
        without.result()
    assert released.result() is None
    with pytest.raises(AgentError, match="there is no kernel mapping"):
        twice.result()
    assert not last.result().in_use


def test_a_signal_is_raised_by_its_own_operation(guest: Guest) -> None:
    bar = guest.mmio(pages=1)
    process = guest.process("reader")
    with guest.batch() as batch:
        mapped = batch.add(process.mmap, bar, WC, protection="r")
        written = batch.add(process.write, mapped.mapping, page=0)
        read = batch.add(process.read, mapped.mapping, page=0)
    with pytest.raises(ProcessFault):
        written.result()
    assert isinstance(read.result(), int)
    process.exit()


def test_a_result_that_is_wanted_early_is_there(guest: Guest) -> None:
    process = guest.process("parent")
    bar = guest.mmio(pages=1)
    with guest.batch() as batch:
        mapped = batch.add(process.mmap, bar, WC)
        child = batch.add(process.fork, "child").result()
        batch.add(child.munmap, mapped.mapping)
        owners = batch.add(guest.tracked, bar)
        batch.add(process.exit)
        batch.add(child.exit)
    assert [each.owner for each in owners.result()] == ["parent"]
    assert guest.tracked(bar) == ()


def test_the_policy_can_change_within_a_batch(guest: Guest) -> None:
    bar = guest.mmio(pages=1)
    drm = guest.driver("drm")
    with guest.batch() as batch:
        first = batch.add(drm.ioremap, bar, WC)
        batch.add(setattr, guest.policy, "one_ioremap", True)
        second = batch.add(drm.ioremap, bar, WC)
        batch.add(setattr, guest.policy, "one_ioremap", False)
        for each in (first, second):
            batch.add(drm.release, each.mapping)
    assert first.result().verdict.accepted
    assert second.result().verdict.rule == "exclusive"


def test_what_cannot_be_added_is_one_line(guest: Guest) -> None:
    bar = guest.mmio(pages=1)
    batch = guest.batch()
    with pytest.raises(UsageError, match="can't ask for UC"):
        batch.add(guest.driver("drm").memremap, bar, MemType.UC)
    with pytest.raises(UsageError, match="longer than"):
        batch.add(guest.shell, "x" * 5000)
    lookup = batch.add(guest.driver("drm").set_memory, guest.ram(1), WC)
    assert lookup.mapping.handle < 0
    with pytest.raises(UsageError, match="makes no mapping"):
        _ = batch.add(guest.verify, bar, WC).mapping  # type: ignore[misc]

    def twice(driver: Driver, region: Region) -> None:
        driver.ioremap(region, WC)
        driver.ioremap(region, WC)

    asked_twice = batch.add(twice, guest.driver("drm"), bar)
    with pytest.raises(UsageError, match="asks the agent more than once"):
        asked_twice.result()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"first": 1, "length": 3, "crc": 0}, "does not hold what the host has written"),
        ({"first": 1, "length": 1 << 40, "crc": 0}, "does not hold what the host has written"),
        ({"first": 4711, "length": 0, "crc": 0}, "request 4711 can't be the next"),
        ({"first": 1, "length": 0}, "crc= is missing"),
    ],
)
def test_a_batch_that_the_mailbox_does_not_hold_is_refused(
    guest: Guest, fields: dict[str, int], message: str
) -> None:
    guest._agent.mailbox.write(b"abc")
    with pytest.raises(AgentError, match=message):
        guest._agent.call("batch", **fields)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (b"release handle=#1", "names a request that is not before it"),
        (b"release handle=#99999999999999999999999", "names a request that is not before it"),
        (b"release handle=#", "names a request that is not before it"),
        (b"batch first=1 length=0 crc=0", "does not hold"),
        (b"batch_rest offset=0", "there are no answers"),
        (b"x" * 5000, "is too long"),
        (b"log a=b c", "not a request"),
        (b"log a=%zz", "not a request"),
    ],
)
def test_nonsense_within_a_batch_is_one_error(guest: Guest, request_: bytes, message: str) -> None:
    fields = guest._agent.mailbox.write(request_ + b"\nlog")
    notice = guest._agent.call("batch", first=1, **fields).content
    bad, good = map(json.loads, guest._agent.mailbox.read(notice).splitlines())
    assert message in bad["reply"]["error"]
    assert good["reply"] == {}


def test_requests_are_in_the_log(guest: Guest) -> None:
    bar = guest.mmio(pages=1)
    with guest.batch() as batch:
        batch.add(guest.verify, bar, WC)
    text = f"verify start={bar.start} pages=1 memtype=1 kind=kernel"
    assert text in (guest.machine.logs / "requests.log").read_text()
