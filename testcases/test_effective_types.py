"""``guest.effective()`` is what accesses are done as now, not what they were when the mapping was made."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_memtype import EffectiveType, Guest, MemType
from pytest_memtype.x86.pat import RESET_PAT

pytestmark = pytest.mark.needs_module

WB, WC, WT, UC, UC_MINUS = MemType.WB, MemType.WC, MemType.WT, MemType.UC, MemType.UC_MINUS

ON_WRITE_BACK = pytest.mark.layout("wb-device")


@ON_WRITE_BACK
def test_another_pat(guest: Guest) -> None:
    """WC of Linux is slot 1 (PWT), which is WT in the PAT of reset (SDM vol. 3, "Programming the PAT")."""
    bar = guest.mmio(pages=1)
    assert guest.driver("fb").ioremap(bar, WC).effective is WC
    guest.change_registers(lambda cpu: replace(cpu, pat_value=RESET_PAT))
    assert guest.effective(bar) == (WT,)


@ON_WRITE_BACK
def test_another_pat_is_no_alias(guest: Guest) -> None:
    """A process whose table was read after the change, and a driver whose table wasn't."""
    bar = guest.mmio(pages=1)
    assert guest.driver("fb").ioremap(bar, WC).granted is WC
    process = guest.process("X")
    mapping = process.mmap(bar, WC, via="sysfs").mapping
    assert mapping is not None
    guest.change_registers(lambda cpu: replace(cpu, pat_value=RESET_PAT))
    assert process.page_table(mapping, guest.registers()[0]) == (WT,)
    assert guest.audit().conflicts == ()
    assert guest.effective(bar) == (WT,)


@ON_WRITE_BACK
@pytest.mark.expect_alias
def test_an_alias_has_a_value_of_its_own(guest: Guest) -> None:
    """Linux takes UC- for a page that isn't in its list when it is touched (``track_pfn_insert()``,
    arch/x86/mm/pat/memtype.c), and doesn't note it, so that WC is granted beside it. UC- over WB is CD
    (APM vol. 2, "Combined Effect of MTRRs and PAT")."""
    bar = guest.mmio(pages=2)
    process = guest.process("X")
    mapping = process.mmap(bar, WB, via="insert_pfn").mapping
    assert mapping is not None
    process.read(mapping, 0)
    guest.driver("fb").ioremap(bar, WC)
    (conflict,) = guest.audit().conflicts
    assert (conflict.start, set(conflict.effective)) == (bar.start, {EffectiveType.CD, WC})
    assert guest.effective(bar) == (EffectiveType.ALIASED, WC)


def test_page_attributes_that_come_to_the_same_are_no_alias(guest: Guest) -> None:
    """UC and UC- over the firmware's UC are both UC (APM vol. 2, "Combined Effect of MTRRs and PAT"). A page
    that was touched is UC-, and not in Linux' list, so that UC is granted beside it."""
    bar = guest.mmio(pages=1)
    process = guest.process("X")
    touched = process.mmap(bar, UC, via="insert_pfn").mapping
    assert touched is not None
    process.read(touched, 0)
    assert process.page_table(touched, guest.registers()[0]) == (UC_MINUS,)
    assert guest.driver("one").ioremap(bar, UC).granted is UC
    assert guest.effective(bar) == (UC,)
    assert guest.audit().conflicts == ()


def test_another_mapping_at_the_same_address(guest: Guest) -> None:
    """What was unmapped isn't at its address any more, whatever else is."""
    first, second = guest.mmio(pages=2), guest.mmio(pages=1)
    process = guest.process("X")
    old = process.mmap(first, WC)
    assert old.mapping is not None
    process.munmap(old.mapping, offset=0, pages=1)
    new = process.mmap(second, UC_MINUS)
    assert new.mapping is not None
    moved = process.mremap(new.mapping, move=True)
    assert guest.effective(first) == (None, WC)
    assert guest.effective(second) == (UC,)
    process.munmap(moved)
    assert guest.effective(second) == (None,)


@pytest.mark.expect_alias
def test_a_private_page_that_was_written_is_a_copy_elsewhere(guest: Guest) -> None:
    bar = guest.mmio(pages=2)
    process = guest.process("X")
    mapping = process.mmap(bar, WC, private=True).mapping
    assert mapping is not None
    assert guest.effective(bar) == (WC, WC)
    process.write(mapping, 1)
    assert process.physical(mapping, 1) != bar.start + 4096
    assert guest.effective(bar) == (WC, None)


def test_a_process_that_was_killed(guest: Guest) -> None:
    bar = guest.mmio(pages=1)
    process = guest.process("X")
    process.mmap(bar, WC)
    assert guest.effective(bar) == (WC,)
    guest.shell(f"kill -9 {process.pid}")
    assert guest.effective(bar) == (None,)


def test_effective_types_are_memory_types(guest: Guest) -> None:
    """Either name of a type is the other."""
    ram = guest.ram(pages=1)
    outcome = guest.process("X").mmap(ram, WB)
    assert outcome.effective is MemType.WB
    assert outcome.effective is EffectiveType.WB
    assert set(guest.effective(ram)) == {MemType.WB}
