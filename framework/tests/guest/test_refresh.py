"""The registers from which the module answers are read on the CPU it runs on, so that this can't fail.

The fault itself is a CPU that is unplugged between the moment when the module asks for its number and the
one when it sends for its registers: too short to be met in a test. It came to a call that fails.
"""

from __future__ import annotations

import errno

import pytest

from pytest_memtype import Guest, MemType

pytestmark = pytest.mark.shared_guest

LEGACY_WINDOW = 0xA0000
"""SMRAM on q35 while D_OPEN is clear, uncached by the fixed MTRRs."""


def test_no_type_is_impossible_because_a_cpu_has_gone(guest: Guest) -> None:
    bar = guest.mmio(pages=1)
    with guest.faults.fail("smp_call_function_single", times=1000, returns=-errno.ENXIO):
        verdicts = {memtype: guest.verify(bar, memtype).rule for memtype in (MemType.WC, MemType.UC_MINUS)}
    assert verdicts == {MemType.WC: None, MemType.UC_MINUS: None}


def test_smram_keeps_its_type_though_a_cpu_has_gone(guest: Guest) -> None:
    window = guest.region(LEGACY_WINDOW, 4096)
    assert guest.verify(window, MemType.UC).rule is None
    with guest.faults.fail("smp_call_function_single", times=1000, returns=-errno.ENXIO):
        assert guest.verify(window, MemType.UC).rule is None
        assert guest.verify(window, MemType.WC).rule == "smram"
