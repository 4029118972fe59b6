"""Registers over a suspension to RAM, and on a CPU that was away: the kernel's own copy decides.

A CPU that wakes has been reset. What the firmware then programs isn't what the kernel has changed since it
booted.
"""

from __future__ import annotations

import pytest

from pytest_memtype import EffectiveType, Guest, Layout, MemType, MtrrRange
from pytest_memtype.x86.mtrr import decode

pytestmark = pytest.mark.needs_module

WB, WC, UC, UC_MINUS, WT, WP = (MemType[name] for name in ("WB", "WC", "UC", "UC_MINUS", "WT", "WP"))

LAYOUT = Layout(
    "moves",
    default=UC,
    ranges=[MtrrRange(0, "256M", WB), MtrrRange(0xFD800000, "1M", WT), MtrrRange("8G", "1G", WP)],
)
TWO_CPUS = pytest.mark.hardware(cpus=2)


@pytest.mark.needs_config("SUSPEND")
@pytest.mark.layout(LAYOUT)
@pytest.mark.parametrize(
    "cpus", [1, pytest.param(2, marks=[TWO_CPUS, pytest.mark.needs_config("SMP", "ACPI")])]
)
def test_over_a_suspension(guest: Guest, cpus: int) -> None:
    """PAT, MTRRs, page tables and both lists are afterwards what they were, on each CPU."""
    bar = guest.mmio(pages=16, align=16)
    assert guest.process("Xorg").mtrr_add(bar.start, bar.size, WC).accepted
    drm = guest.driver("drm")
    mapped = drm.ioremap(bar, UC_MINUS)
    assert mapped.effective is EffectiveType.WC
    before = guest.registers()
    lists = guest.memtype_list(), guest.mtrr_list(), guest.tracked(bar)
    assert len(before) == cpus

    guest.suspend()

    after = guest.registers()
    assert [each.mtrr for each in after] == [each.mtrr for each in before]
    assert [each.pat for each in after] == [each.pat for each in before]
    assert (guest.memtype_list(), guest.mtrr_list(), guest.tracked(bar)) == lists
    assert guest.register_disagreements() == ()
    assert mapped.mapping is not None
    assert drm.page_table(mapped.mapping, after[0]) == (UC_MINUS,) * 16
    assert set(guest.effective(bar)) == {EffectiveType.WC}
    # What comes later goes to all CPUs as ever.
    assert guest.process("late").mtrr_add("16G", "1G", WT).accepted
    assert len({each.mtrr for each in guest.registers()}) == 1


@TWO_CPUS
@pytest.mark.needs_config("SMP", "ACPI", "HOTPLUG_CPU")
@pytest.mark.layout(LAYOUT)
def test_a_cpu_that_was_away(guest: Guest) -> None:
    """It gets the MTRRs that were changed meanwhile, and keeps its PAT."""
    bar = guest.mmio(pages=16, align=16)
    pat = guest.registers()[1].pat
    guest.cpu(1).offline()
    assert len(guest.registers()) == 1
    assert guest.process("Xorg").mtrr_add(bar.start, bar.size, WC).accepted
    assert guest.process("Xorg2").mtrr_delete(2).accepted
    guest.cpu(1).online()
    first, second = guest.registers()
    assert first.mtrr is not None
    assert second.mtrr is not None
    # A register that isn't in force may have anything else.
    assert decode(first.mtrr) == decode(second.mtrr)
    assert first.pat == second.pat == pat
    assert [(each.base, each.memtype) for each in guest.mtrr_list()] == [
        (0, WB),
        (0xFD800000, WT),
        (bar.start, WC),
    ]
    assert guest.register_disagreements() == ()
