"""Who changes MTRRs behind the page tables: the X server through /proc/mtrr, drivers without PAT."""

from __future__ import annotations

import errno

import pytest

from pytest_memtype import EffectiveType, Guest, Layout, MemType, ProcMtrr

WB, WC, UC, UC_MINUS = MemType.WB, MemType.WC, MemType.UC, MemType.UC_MINUS

# No range at all, so that one that is added has no other to give way to.
BARE = pytest.mark.layout(Layout("bare", default=WB))


@BARE
def test_a_framebuffer_becomes_write_combining(guest: Guest) -> None:
    """The range is there at once, changes what a live mapping amounts to, and outlives who asked for it."""
    bar = guest.mmio(pages=16, align=16)
    before = guest.driver("fbdev").ioremap(bar, UC_MINUS)
    x_server = guest.process("Xorg")

    answer = x_server.mtrr_add(bar.start, "64K", WC)
    x_server.exit()

    expected = (ProcMtrr(index=0, base=bar.start, size=64 << 10, memtype=WC, count=1),)
    assert answer.accepted
    assert answer.registers == guest.mtrr_list() == expected
    # AMD APM vol. 2, "Combined Effect of MTRRs and PAT": UC- over WB is CD, over WC it is WC.
    assert before.effective is EffectiveType.CD
    assert before.verdict.hazards == ("mtrr-wb-uncached",)
    assert set(guest.effective(bar)) == {EffectiveType.WC}
    assert guest.verify(bar, UC_MINUS).hazards == ("mtrr-uncached-combines",)


@BARE
def test_a_range_is_counted(guest: Guest) -> None:
    """The same range twice is one register, and goes with the second delete."""
    bar = guest.mmio(pages=16, align=16)
    process = guest.process("Xorg")
    process.mtrr_add(bar.start, bar.size, WC)

    twice = process.mtrr_add(bar.start, bar.size, WC)
    once = process.mtrr_delete(0)
    never = process.mtrr_delete(0)

    assert [[each.count for each in answer.registers or ()] for answer in (twice, once)] == [[2], [1]]
    assert never.accepted
    assert never.registers == ()
    assert process.mtrr_delete(0).errno == errno.EINVAL


@BARE
@pytest.mark.parametrize(
    ("base", "size"), [(0xFD000000, 0), (0xFD000000, 1000), (0xFD001000, 8192), (0xFD000000, 12288)]
)
def test_what_no_mtrr_can_hold(guest: Guest, base: int, size: int) -> None:
    """Not whole pages, not a multiple of the size, not a power of two: EINVAL (mtrr_check(),
    generic_validate_add_page())."""
    answer = guest.process("Xorg").mtrr_add(base, size, WC)

    assert answer.errno == errno.EINVAL
    assert answer.registers == ()


@BARE
def test_only_root_may(guest: Guest) -> None:
    answer = guest.process("Xorg", uid=1000).mtrr_add(0xFD000000, "64K", WC)

    assert answer.errno == errno.EACCES
    assert answer.registers is None
    assert guest.mtrr_list() == ()


@BARE
def test_phys_wc_add_does_nothing_with_pat(guest: Guest) -> None:
    """arch_phys_wc_add() is for CPUs without PAT (arch/x86/kernel/cpu/mtrr/mtrr.c)."""
    bar = guest.mmio(pages=16, align=16)

    outcome = guest.driver("drm").phys_wc_add(bar)

    assert outcome.accepted
    assert outcome.granted is None
    assert guest.mtrr_list() == ()
    assert guest.tracked(bar) == ()


@BARE
@pytest.mark.hardware(cmdline="nopat")
def test_phys_wc_add_without_pat(guest: Guest) -> None:
    """There it is the only way to write-combining, and release takes it back."""
    bar = guest.mmio(pages=16, align=16)
    drm = guest.driver("drm")

    outcome = drm.phys_wc_add(bar)
    shown = guest.mtrr_list()
    mapped = drm.ioremap(bar, UC_MINUS)
    assert outcome.mapping
    drm.release(outcome.mapping)

    assert outcome.accepted
    assert shown == (ProcMtrr(index=0, base=bar.start, size=bar.size, memtype=WC, count=1),)
    assert mapped.effective is EffectiveType.WC
    assert guest.mtrr_list() == ()


@BARE
@pytest.mark.hardware(cmdline="nopat")
def test_reset_takes_back_what_a_driver_added(guest: Guest) -> None:
    bar = guest.mmio(pages=16, align=16)
    assert guest.driver("drm").phys_wc_add(bar).accepted
    assert [each.base for each in guest.mtrr_list()] == [bar.start]

    guest.reset()

    assert guest.mtrr_list() == ()


@pytest.mark.hardware(cmdline="nopat")
@BARE
def test_phys_wc_add_of_an_odd_range(guest: Guest) -> None:
    """A range that no MTRR holds is refused with EINVAL, and leaves none behind."""
    bar = guest.mmio(pages=3, align=16)

    outcome = guest.driver("drm").phys_wc_add(bar)

    assert outcome.kernel.errno == errno.EINVAL
    assert outcome.mapping is None
    assert guest.mtrr_list() == ()
