"""What Linux grants and keeps, without asking the verifier: these run also on kernels that the guest's module
can't be built for, because mirrors have dropped their headers."""

from __future__ import annotations

import pytest

from pytest_memtype import Guest, MemType

WB, WC, UC_MINUS = MemType.WB, MemType.WC, MemType.UC_MINUS


@pytest.mark.parametrize(("via", "memtype"), [("sysfs", WC), ("sysfs", UC_MINUS), ("devmem", UC_MINUS)])
def test_untouched_memory_gets_the_type_asked_for(guest: Guest, via: str, memtype: MemType) -> None:
    bar = guest.mmio(pages=4)
    outcome = guest.process("X").mmap(bar, memtype, via=via)
    assert outcome.kernel.accepted
    assert outcome.granted is memtype
    assert [(entry.region, entry.memtype) for entry in guest.memtype_list(bar)] == [(bar, memtype)]


@pytest.mark.parametrize(
    ("first", "second"), [(WC, UC_MINUS), (UC_MINUS, WC)], ids=["WC-then-UC-minus", "UC-minus-then-WC"]
)
def test_the_second_process_takes_over_the_first_ones_type(
    guest: Guest, first: MemType, second: MemType
) -> None:
    """Silently (arch/x86/mm/pat/memtype.c, is_new_memtype_allowed())."""
    bar = guest.mmio(pages=4)
    assert guest.process("X").mmap(bar, first, via="sysfs").granted is first
    outcome = guest.process("Y").mmap(bar, second, via="sysfs")
    assert outcome.kernel.accepted
    assert outcome.granted is first
    assert [(entry.region, entry.memtype) for entry in guest.memtype_list(bar)] == [(bar, first)] * 2


def test_a_process_takes_its_reservations_with_it(guest: Guest) -> None:
    bar = guest.mmio(pages=4)
    process = guest.process("X")
    assert process.mmap(bar, WC, via="sysfs").granted is WC
    process.exit()
    assert guest.memtype_list(bar) == ()
    assert guest.process("Y").mmap(bar, UC_MINUS, via="sysfs").granted is UC_MINUS


def test_what_unmapping_the_tail_leaves_reserved(guest: Guest) -> None:
    """Until 6.12 the reservation is shortened; since 6.16 one context holds the whole range until its last
    page goes, so that the freed tail can't have another type (the series "mm: rewrite pfnmap tracking and
    remove VM_PAT").
    """
    bar = guest.mmio(pages=4)
    process = guest.process("X")
    mapping = process.mmap(bar, UC_MINUS, via="sysfs").mapping
    assert mapping is not None
    assert process.munmap(mapping, offset=2, pages=2) == 0

    kept = bar if guest.version >= (6, 16) else bar[:2]
    assert [entry.region for entry in guest.memtype_list(bar)] == [kept]
    tail = guest.process("Y").mmap(bar[2:], WC, via="sysfs")
    assert tail.granted is (UC_MINUS if guest.version >= (6, 16) else WC)
