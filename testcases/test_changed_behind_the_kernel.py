"""MTRRs and PAT that change behind the back of a kernel that runs: on all CPUs, or on one.

What Linux knows of the MTRRs it learns at boot and from who writes to ``/proc/mtrr``: ``mtrr_state``, which
``mtrr_type_lookup()`` answers from (arch/x86/kernel/cpu/mtrr/generic.c, 5.10 to 7.3). ``/proc/mtrr`` itself
reads the registers of the CPU it is read on (``generic_get_mtrr()``), so it shows the new ranges while Linux
grants by the old.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_memtype import EffectiveType, Guest, Layout, MemType, MtrrRange

pytestmark = pytest.mark.needs_module

WB, WC, UC, UC_MINUS = MemType.WB, MemType.WC, MemType.UC, MemType.UC_MINUS

BAR = 0xFD000000
RAM = MtrrRange(0, "256M", WB)
WRITE_BACK = Layout("bar-write-back", default=UC, ranges=[RAM, MtrrRange(BAR, "16M", WB)])
UNCACHED = Layout("bar-uncached", default=UC, ranges=[RAM])


@pytest.mark.layout(WRITE_BACK)
def test_linux_grants_by_the_mtrrs_that_were(guest: Guest) -> None:
    """A write-back mapping is granted on memory that the MTRRs have made uncached meanwhile."""
    before, after = guest.mmio(pages=1), guest.mmio(pages=1)
    driver = guest.driver("drm")
    assert driver.ioremap(before, WB).granted is WB
    assert guest.effective(before) == (EffectiveType.WB,)

    guest.change_registers(UNCACHED)

    outcome = driver.ioremap(after, WB)
    # An uncached MTRR would have made it UC- (pat_x_mtrr_type(), arch/x86/mm/pat/memtype.c).
    assert outcome.granted is WB
    # Both vendors: UC by the MTRRs, whatever the page attribute but WC.
    assert outcome.effective is EffectiveType.UC
    assert guest.effective(before) == (EffectiveType.UC,)
    assert [record.memtype for record in guest.tracked(observed=False)] == [WB, WB]


@pytest.mark.layout(WRITE_BACK)
def test_the_change_is_reported_as_one(guest: Guest) -> None:
    assert guest.rewritten() == ()
    assert guest.register_disagreements() == ()
    before = guest.mtrr_list()

    guest.change_registers(UNCACHED)

    # Base and mask of the second range, MSRs 0x202 and 0x203, are not what the layout says.
    assert [(change.cpu, change.msr, change.found) for change in guest.rewritten()] == [
        (0, 0x202, 0),
        (0, 0x203, 0),
    ]
    # All three ways to read show the same, the new: /proc/mtrr reads the registers, too.
    assert guest.register_disagreements() == ()
    assert guest.mtrr_list() == before[:1]


@pytest.mark.layout("inconsistent-cpus")
@pytest.mark.hardware(cpus=2)
def test_cpus_that_disagree_are_noticed(guest: Guest) -> None:
    other = guest.layout.other_cpus
    assert other is not None
    guest.change_registers(other, cpus=[1])
    first, second = guest.registers()
    assert first.mtrr is not None
    assert second.mtrr is not None
    # Encodings of WC and WB in the low byte of the range's base.
    assert (first.mtrr.variable[1][0], second.mtrr.variable[1][0]) == (BAR | WC, BAR | WB)
    assert [(change.cpu, change.msr) for change in guest.rewritten()] == [(1, 0x202)]
    assert [cpu.mtrr for cpu in guest.registers_outside()] == [first.mtrr, second.mtrr]
    assert guest.register_disagreements() == ()


@pytest.mark.layout(WRITE_BACK)
@pytest.mark.hardware(cpus=2)
def test_proc_mtrr_on_the_other_cpu_still_shows_the_old_ones(guest: Guest) -> None:
    """``/proc/mtrr`` shows the registers of the CPU that reads it, and speaks for all."""

    def shown_on(cpu: int) -> str:
        return guest.shell(f"taskset {1 << cpu:x} cat /proc/mtrr").output

    before = shown_on(0)
    assert "base=0x0fd000000" in before
    assert shown_on(1) == before

    guest.change_registers(UNCACHED, cpus=[1])

    assert shown_on(0) == before
    assert shown_on(1) == before.splitlines(keepends=True)[0]
    first, second = guest.registers()
    assert first.mtrr is not None
    assert second.mtrr is not None
    assert (first.mtrr.variable[1], second.mtrr.variable[1][1]) == ((BAR | WB, first.mtrr.variable[1][1]), 0)
    assert [(change.cpu, change.msr, change.found) for change in guest.rewritten()] == [
        (1, 0x202, 0),
        (1, 0x203, 0),
    ]


def test_a_pat_without_write_combining_makes_it_impossible(guest: Guest) -> None:
    """After power-up the PAT holds neither WC nor WP (Intel SDM vol. 3, "IA32_PAT MSR"), as before Linux."""
    bar = guest.mmio(pages=1)
    guest.change_registers(lambda cpu: replace(cpu, pat_value=0x0007040600070406))
    outcome = guest.driver("drm").ioremap(bar, WC)
    assert outcome.verdict.rule == "impossible"
    # Linux writes the entry it always wrote for WC, slot 1: now that slot holds WT.
    assert outcome.kernel is not None
    assert outcome.kernel.accepted
    assert outcome.granted is MemType.WT
    assert guest.tracked(observed=False) == ()
