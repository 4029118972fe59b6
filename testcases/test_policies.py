"""The policies: ``enforce`` keeps what the verifier refuses from the kernel, ``one-ioremap`` is rule 4.

Every way to a mapping is tried, because each has its own way past the verifier.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from pytest_memtype import Guest, MemType, Outcome, Region

UC, UC_MINUS, WC, WT, WB = MemType.UC, MemType.UC_MINUS, MemType.WC, MemType.WT, MemType.WB

pytestmark = [pytest.mark.layout("firmware"), pytest.mark.needs_module]

Way = Callable[[Guest, Region], Outcome]

# Each asks for another type than UC-, or than WC where it knows no other.
DEVICE_WAYS: dict[str, Way] = {
    "ioremap": lambda guest, bar: guest.driver("second").ioremap(bar, WT),
    "ioremap_prot": lambda guest, bar: guest.driver("second").ioremap(bar, MemType.WP),
    "memremap": lambda guest, bar: guest.driver("second").memremap(bar, WT),
    "reserve_wc": lambda guest, bar: guest.driver("second").reserve_wc(bar),
    "mmap driver": lambda guest, bar: guest.process("second").mmap(bar, UC),
    "mmap private": lambda guest, bar: guest.process("second").mmap(bar, UC, private=True),
    "mmap part": lambda guest, bar: guest.process("second").mmap(bar, UC, part=(1, 2)),
    "mmap insert_pfn": lambda guest, bar: guest.process("second").mmap(bar, UC, via="insert_pfn"),
    "mmap sysfs": lambda guest, bar: guest.process("second").mmap(bar, WC, via="sysfs"),
    "mmap devmem": lambda guest, bar: guest.process("second").mmap(bar, WB, via="devmem"),
}

RAM_WAYS: dict[str, Way] = {
    "ioremap": lambda guest, ram: guest.driver("second").ioremap(ram, UC_MINUS),
    "memremap": lambda guest, ram: guest.driver("second").memremap(ram, WT),
    "set_memory": lambda guest, ram: guest.driver("second").set_memory(ram, WC),
    "set_pages_array": lambda guest, ram: guest.driver("second").set_pages_array(ram, WC),
    "reserve_wc": lambda guest, ram: guest.driver("second").reserve_wc(ram),
    "mmap driver": lambda guest, ram: guest.process("second").mmap(ram, WC),
    "mmap insert_pfn": lambda guest, ram: guest.process("second").mmap(ram, WC, via="insert_pfn"),
    "mmap devmem": lambda guest, ram: guest.process("second").mmap(ram, UC_MINUS, via="devmem"),
}


def by_name(ways: dict[str, Way]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("way", [pytest.param(way, id=name) for name, way in ways.items()])


def assert_not_asked(outcome: Outcome, rule: str) -> None:
    assert outcome.verdict.rule == rule
    assert not outcome.kernel.asked
    assert str(outcome.kernel) == "not asked"
    # Neither a warning nor a complaint: the kernel knows nothing of it.
    assert outcome.kernel.log == ()
    assert outcome.mapping is None
    assert outcome.granted_pages == ()


@by_name(DEVICE_WAYS)
def test_enforce_on_device_memory(guest: Guest, way: Way) -> None:
    guest.policy.enforce = True
    bar = guest.mmio(pages=4)
    first = guest.driver("first").ioremap(bar, UC_MINUS)
    assert first.accepted
    assert first.mapping
    listed, records = guest.memtype_list(bar), guest.tracked(bar)

    outcome = way(guest, bar)

    assert_not_asked(outcome, "alias")
    assert outcome.verdict.conflict is not None
    assert outcome.verdict.conflict.owner == "first"
    assert guest.memtype_list(bar) == listed
    assert guest.tracked(bar) == records
    types = guest.driver("first").page_table(first.mapping, guest.registers()[0])
    assert types == (UC_MINUS,) * 4


@by_name(RAM_WAYS)
def test_enforce_on_ram(guest: Guest, way: Way) -> None:
    guest.policy.enforce = True
    ram = guest.ram(pages=4)
    direct = guest.driver("first").memremap(ram, WB)
    assert direct.accepted
    assert direct.mapping
    records = guest.tracked(ram)

    assert_not_asked(way(guest, ram), "ram-not-wb")

    assert guest.tracked(ram) == records
    assert guest.driver("first").page_table(direct.mapping, guest.registers()[0]) == (WB,) * 4


@by_name(DEVICE_WAYS)
def test_what_the_verifier_accepts_reaches_the_kernel(guest: Guest, way: Way) -> None:
    """Enforcing changes nothing for requests that break no rule."""
    guest.policy.enforce = True

    outcome = way(guest, guest.mmio(pages=4))

    assert outcome.verdict.accepted
    assert outcome.kernel.accepted
    assert outcome.mapping is not None


def test_a_malformed_request_is_not_passed_on(guest: Guest) -> None:
    guest.policy.enforce = True
    bar = guest.mmio(pages=1)
    width = guest.registers()[0].physical_bits

    for region in (bar[0:0], Region(1 << width, 1)):
        assert_not_asked(guest.driver("second").ioremap(region, UC_MINUS), "malformed")
        assert_not_asked(guest.driver("second").reserve_wc(region), "malformed")
        assert_not_asked(guest.driver("second").phys_wc_add(region), "malformed")


@pytest.mark.hardware(cmdline="nopat")
def test_an_impossible_request_is_not_passed_on(guest: Guest) -> None:
    guest.policy.enforce = True
    bar = guest.mmio(pages=1)

    assert_not_asked(guest.driver("second").ioremap(bar, WC), "impossible")
    assert_not_asked(guest.driver("second").reserve_wc(bar), "impossible")
    assert_not_asked(guest.process("second").mmap(bar, WC), "impossible")


def test_audit_is_what_a_guest_begins_with_and_goes_back_to(guest: Guest) -> None:
    assert guest.policy.audit
    bar = guest.mmio(pages=1)
    assert guest.driver("first").ioremap(bar, UC_MINUS).accepted
    guest.policy.enforce = True
    assert not guest.driver("second").ioremap(bar, WC).kernel.asked

    guest.policy.audit = True
    assert guest.driver("second").ioremap(bar, WC).kernel.asked

    guest.policy.enforce = True
    guest.reset()
    assert guest.policy.audit
    assert guest.driver("first").ioremap(bar, UC_MINUS).accepted
    assert guest.driver("second").ioremap(bar, WC).kernel.asked


SAME_TYPE_WAYS: dict[str, Way] = {
    "ioremap": lambda guest, bar: guest.driver("second").ioremap(bar, WC),
    "memremap": lambda guest, bar: guest.driver("second").memremap(bar, WC),
    "reserve_wc": lambda guest, bar: guest.driver("second").reserve_wc(bar),
}


@by_name(SAME_TYPE_WAYS)
@pytest.mark.parametrize("overlap", [slice(0, 4), slice(0, 1), slice(3, 4)], ids=["all", "first", "last"])
def test_one_kernel_mapping(guest: Guest, way: Way, overlap: slice) -> None:
    """Rule 4: even of the same type, even of one page, even the same driver's."""
    guest.policy.one_ioremap = True
    bar = guest.mmio(pages=4)
    first = guest.driver("second").ioremap(bar[overlap], WC)
    assert first.accepted

    outcome = way(guest, bar)

    assert (outcome.verdict.rule, outcome.verdict.errno) == ("exclusive", errno.EBUSY)
    assert outcome.verdict.conflict is not None
    assert outcome.verdict.conflict.region == bar[overlap]
    assert outcome.kernel.accepted
    assert [each.region for each in guest.tracked(bar)] == [bar[overlap]]


def test_one_kernel_mapping_of_ram(guest: Guest) -> None:
    guest.policy.one_ioremap = True
    ram = guest.ram(pages=2)
    assert guest.driver("first").memremap(ram, WB).verdict.accepted

    assert guest.driver("second").set_memory(ram, WB).verdict.rule == "exclusive"
    assert guest.driver("second").set_pages_array(ram, WB).verdict.rule == "exclusive"


def test_user_mappings_are_not_counted(guest: Guest) -> None:
    """Neither as the first nor as the second, however many."""
    guest.policy.one_ioremap = True
    bar = guest.mmio(pages=2)
    assert guest.process("X").mmap(bar, WC).accepted

    assert guest.driver("drm").ioremap(bar, WC).accepted
    assert guest.process("Y").mmap(bar, WC).accepted
    assert guest.verify(bar, WC, kind="user").accepted
    assert guest.verify(bar, WC, kind="kernel").rule == "exclusive"


def test_another_type_is_an_alias_first(guest: Guest) -> None:
    guest.policy.one_ioremap = True
    bar = guest.mmio(pages=2)
    assert guest.driver("drm").ioremap(bar, WC).accepted

    assert guest.verify(bar, UC_MINUS).rule == "alias"


def test_the_place_is_free_again(guest: Guest) -> None:
    guest.policy.one_ioremap = True
    bar = guest.mmio(pages=2)
    drm = guest.driver("drm")
    outcome = drm.ioremap(bar, WC)
    assert outcome.mapping
    drm.release(outcome.mapping)

    assert guest.driver("fbdev").ioremap(bar, WC).accepted


def test_what_was_mapped_twice_before_stays(guest: Guest) -> None:
    """The policy judges requests, not what it finds."""
    bar = guest.mmio(pages=2)
    assert guest.driver("drm").ioremap(bar, WC).accepted
    assert guest.driver("fbdev").ioremap(bar, WC).accepted

    guest.policy.one_ioremap = True

    assert len(guest.tracked(bar)) == 2
    assert guest.verify(bar, WC).rule == "exclusive"
    guest.policy.one_ioremap = False
    assert guest.verify(bar, WC).accepted


def test_both_policies(guest: Guest) -> None:
    guest.policy.one_ioremap = True
    guest.policy.enforce = True
    bar = guest.mmio(pages=2)
    assert guest.driver("drm").ioremap(bar, WC).accepted

    assert_not_asked(guest.driver("fbdev").ioremap(bar, WC), "exclusive")
    assert len(guest.memtype_list(bar)) == 1
