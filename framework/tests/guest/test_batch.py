"""Batches, in a real guest that all tests of this file share."""

from __future__ import annotations

import copy
import dataclasses
import errno
import json
from collections.abc import Callable
from typing import Any

import pytest

from pytest_memtype import Guest, Mapping, MemType, Outcome, Region, TrackedMapping
from pytest_memtype.errors import AgentError, GuestExited, ProcessFault, UsageError
from pytest_memtype.plugin.fixtures import GuestFactory

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


def test_requests_longer_than_the_mailbox_go_in_several_messages(guest: Guest) -> None:
    process = guest.process("long")
    paths = [f"/dev/{n:03}{'x' * 3800}" for n in range(300)]
    assert sum(map(len, paths)) > guest._agent.mailbox.size
    with guest.batch() as batch:
        pending = [batch.add(process.mmap, via=path, size=4096) for path in paths]
        last = batch.add(process.mmap, guest.mmio(pages=1), WC)
    assert {each.result().kernel.errno for each in pending} == {errno.ENAMETOOLONG}
    assert last.result().accepted
    process.exit()


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


def test_any_other_function_is_called_at_once_and_in_its_turn(guest: Guest) -> None:
    bar = guest.mmio(pages=1)
    drm = guest.driver("drm")

    def remap(mapping: Mapping) -> Outcome:
        drm.release(mapping)
        return drm.ioremap(mapping.region, UC_MINUS)

    with guest.batch() as batch:
        first = batch.add(drm.ioremap, bar, WC)
        second = batch.add(remap, first.mapping)
        assert [each.memtype for each in guest.tracked(bar)] == [UC_MINUS]
        again = batch.add(remap, first.mapping)
        batch.add(drm.release, second.mapping)
    assert second.result().accepted
    with pytest.raises(AgentError, match="there is no kernel mapping"):
        again.result()
    assert guest.tracked(bar) == ()


def test_a_question_that_needs_no_answer_is_none(guest: Guest) -> None:
    before = guest._agent.sequence
    assert guest.batch().add(guest.tracked, Region(0, 0)).result() == ()
    assert guest._agent.sequence == before


def test_a_promised_mapping_is_a_mapping_after_the_batch(guest: Guest) -> None:
    bar = guest.mmio(pages=2)
    process = guest.process("promised")
    start = len(guest.journal.entries)
    with guest.batch() as batch:
        made = batch.add(process.mmap, bar, WC)
        batch.add(process.write, made.mapping, page=0)
        batch.add(process.munmap, made.mapping, offset=1)
    promised, mapping = made.mapping, made.result().mapping
    assert mapping is not None
    assert (promised, promised.address) == (mapping, mapping.address)
    used = [each["arguments"]["handle"] for each in guest.journal.entries[start + 1 :]]
    assert used == [mapping.handle, mapping.handle]
    assert process.munmap(promised, pages=1).accepted
    assert guest.journal.live(bar) == []
    process.exit()


def test_a_promised_mapping_of_several_pieces_ends_too(guest: Guest) -> None:
    """A mapping that the journal takes for live excuses an alias of later mappings of its pages."""
    bar = guest.mmio(pages=8)
    process = guest.process("pieces")
    with guest.batch() as batch:
        made = batch.add(process.mmap, [bar[4:6], bar[0]], WC)
        part = batch.add(process.munmap, made.mapping, offset=2)
        live = batch.add(guest.journal.live, bar)
        batch.add(process.munmap, made.mapping, pages=2)
    assert part.result().accepted
    assert made.result().mapping == made.mapping
    assert live.result() == [made.mapping]
    assert guest.journal.live(bar) == []
    process.exit()


def test_a_mapping_that_was_not_made_is_none_in_another_batch(guest: Guest) -> None:
    bar = guest.mmio(pages=1)
    drm = guest.driver("drm")
    guest.policy.enforce = True
    with guest.batch() as batch:
        one = batch.add(drm.ioremap, bar, WC)
        refused = batch.add(drm.ioremap, bar, UC_MINUS)
    guest.policy.enforce = False
    with guest.batch() as batch:
        batch.add(guest.verify, bar, WC)
        batch.add(drm.ioremap, bar, WC)
        released = batch.add(drm.release, refused.mapping)
        batch.add(drm.release, one.mapping)
    with pytest.raises(AgentError, match="there is no kernel mapping 0"):
        released.result()


def test_batches_in_turns(guest: Guest) -> None:
    """Each has sent something before the other goes on; the agent counts the requests of one message."""
    bar = guest.mmio(pages=4)
    drm = guest.driver("drm")
    with guest.batch() as one:
        first = one.add(drm.ioremap, bar[0], WC)
        assert first.result().accepted
        with guest.batch() as other:
            second, third = other.add(drm.ioremap, bar[1], WC), other.add(drm.ioremap, bar[2], WC)
        last = one.add(drm.ioremap, bar[3], WC)
        for each in (first, second, third, last):
            one.add(drm.release, each.mapping)
    assert all(each.result().accepted for each in (second, third, last))
    assert guest.tracked(bar) == ()


def test_a_promise_of_another_batch_is_no_mapping_yet(guest: Guest) -> None:
    """By its number alone it would be what this batch makes first."""
    bar = guest.mmio(pages=2)
    drm = guest.driver("drm")
    with guest.batch() as one:
        promised = one.add(drm.ioremap, bar[0], WC)
        with guest.batch() as other:
            mine = other.add(drm.ioremap, bar[1], WC)
            with pytest.raises(UsageError, match="promised by another batch, which has to end first"):
                other.add(drm.release, promised.mapping)
    assert [each.region for each in guest.tracked(bar)] == [bar[0], bar[1]]
    for each in (promised, mine):
        drm.release(each.mapping)


def test_every_operation_can_wait(guest: Guest) -> None:
    bar, ram = guest.mmio(pages=2), guest.ram(pages=1)
    drm, process, registers = guest.driver("drm"), guest.process("waits"), guest.registers()[0]
    kernel, user = drm.ioremap(bar, WC).mapping, process.mmap(bar, WC).mapping
    questions: list[tuple[Callable[..., Any], *tuple[Any, ...]]] = [
        (drm.page_table, kernel, registers),
        (drm.leaves, kernel, registers),
        (drm.physical, kernel),
        (process.write, user, 1, 7),
        (process.read, user, 1),
        (process.page_table, user, registers),
        (process.physical, user, 1),
        (process.vmas,),
        (process.mprotect, user, "rw"),
        (process.mremap, user),
        (process.mtrr_delete, 7),
        (guest.lookup, bar),
        (guest.verify, bar, WB),
        (guest.tracked, bar),
        (guest.memtype_list, bar),
        (guest.mtrr_list,),
        (guest.observed, bar),
        (guest.observation,),
        (guest.kept_pages,),
        (guest.shell, "echo once"),
    ]
    changes: list[tuple[Callable[..., Any], *tuple[Any, ...]]] = [
        (guest.registers,),
        (guest.ram, 1),
        (guest.process, "another"),
        (guest.observe, True),
        (drm.memremap, ram, WB),
        (drm.set_memory, ram, WC),
        (drm.set_pages_array, ram, WC),
        (drm.reserve_wc, bar),
        (drm.phys_wc_add, bar),
        (drm.zap, bar),
        (process.mtrr_add, bar.start, 3 * 4096, WC),
        (process.fork,),
        (process.exec,),
        (process.kill,),
    ]
    alone = [ask(*arguments) for ask, *arguments in questions]
    before = guest._agent.sequence
    with guest.batch() as batch:
        asked = [batch.add(ask, *arguments) for ask, *arguments in questions]
        changed = [batch.add(change, *arguments) for change, *arguments in changes]
        assert guest._agent.sequence == before
    assert [each.result() for each in asked] == alone
    for each in changed:
        each.result()
    guest.reset()


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


def test_what_a_dead_guest_left_unanswered_raises_why(guest_factory: GuestFactory) -> None:
    """More than one message: no request of the second was sent."""
    guest = guest_factory()
    bar, drm = guest.mmio(pages=1), guest.driver("drm")
    batch = guest.batch()
    before = batch.add(drm.ioremap, bar, WC)
    batch.flush()
    first = batch.add(drm.ioremap, bar, WC)
    batch.add(guest.shell, "poweroff -f; sleep 1000")
    later = [batch.add(drm.ioremap, bar, WC) for _ in range(600)]
    with pytest.raises(GuestExited) as error:
        batch.flush()
    for each in (first, later[0], later[-1]):
        with pytest.raises(GuestExited) as raised:
            each.result()
        assert raised.value is error.value
        assert each.mapping.handle == 0
    assert before.result().accepted


def test_requests_are_in_the_log(guest: Guest) -> None:
    bar = guest.mmio(pages=1)
    with guest.batch() as batch:
        batch.add(guest.verify, bar, WC)
    text = f"verify start={bar.start} pages=1 memtype=1 kind=kernel"
    assert text in (guest.machine.logs / "requests.log").read_text()
