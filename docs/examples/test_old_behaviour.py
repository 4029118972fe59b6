"""What Linux did once, as tests that fail where it changed: for ``memtype bisect``."""

import pytest

from pytest_memtype import Guest, MemType
from pytest_memtype.x86.pat import RESET_PAT


def test_unmapping_the_tail_frees_its_reservation(guest: Guest) -> None:
    bar = guest.mmio(pages=4)
    process = guest.process("X")
    mapping = process.mmap(bar, MemType.UC_MINUS, via="sysfs").mapping
    process.munmap(mapping, offset=2, pages=2)
    assert [entry.region for entry in guest.memtype_list(bar)] == [bar[:2]]


@pytest.mark.hardware(cpu="qemu64,-mtrr")
def test_without_mtrr_the_pat_stays_as_at_reset(guest: Guest) -> None:
    (registers,) = guest.registers_outside()
    assert registers.pat_value == RESET_PAT
