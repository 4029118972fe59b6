"""A kernel in the place of another, by kexec: the machine isn't reset, and what its registers have stays.

The new kernel takes the MTRRs for the firmware's, whoever has written them. All else that the old kernel knew
is gone: its list of reservations, the page tables, and which process has asked for which MTRR.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_memtype import EffectiveType, Guest, Layout, MemType, MtrrRange
from pytest_memtype.x86.pat import RESET_PAT

pytestmark = [pytest.mark.needs_module, pytest.mark.needs_config("KEXEC_FILE")]

WB, WC, UC, UC_MINUS, WT, WP = (MemType[name] for name in ("WB", "WC", "UC", "UC_MINUS", "WT", "WP"))

MIB = 1 << 20

LAYOUT = Layout(
    "kexec",
    default=UC,
    ranges=[MtrrRange(0, "256M", WB), MtrrRange(0xFD800000, "1M", WT), MtrrRange("8G", "1G", WP)],
)
# RAM alone, so that whatever else an MTRR says was said later.
COVERED = Layout("covered", default=UC, ranges=[MtrrRange(0, "256M", WB)])

CPUS = pytest.mark.parametrize(
    "cpus",
    [1, pytest.param(2, marks=[pytest.mark.hardware(cpus=2), pytest.mark.needs_config("SMP", "ACPI")])],
)


def shown(guest: Guest) -> list[tuple[int, int, MemType, int]]:
    """The MTRRs in use as Linux lists them: base, size, type and count, by their numbers."""
    return [(each.base, each.size, each.memtype, each.count) for each in guest.mtrr_list()]


@CPUS
@pytest.mark.layout(LAYOUT)
def test_mtrrs_stay(guest: Guest, cpus: int) -> None:
    """Each CPU has those that processes have added, also one that goes with a process' file: nobody closes
    that (kernel_kexec(), kernel/kexec_core.c). How often a range was asked for is forgotten: a kernel that
    boots begins with 1 (init_table(), arch/x86/kernel/cpu/mtrr/mtrr.c)."""
    bar, held = guest.mmio(pages=16, align=16), guest.mmio(pages=16, align=16)
    process = guest.process("Xorg")
    for _ in range(2):
        assert process.mtrr_add(bar.start, bar.size, WC).accepted
    assert process.mtrr_add(held.start, held.size, WC, held=True).accepted
    own = [(0, 256 * MIB, WB, 1), (0xFD800000, MIB, WT, 1), (8 << 30, 1 << 30, WP, 1)]
    assert shown(guest) == [*own, (bar.start, bar.size, WC, 2), (held.start, held.size, WC, 1)]
    before, rewritten = guest.registers(), guest.rewritten()
    assert len(before) == cpus

    guest.kexec()

    after = guest.registers()
    assert [each.mtrr for each in after] == [each.mtrr for each in before]
    assert [each.pat for each in after] == [each.pat for each in before]
    assert guest.rewritten() == rewritten
    assert guest.register_disagreements() == ()
    assert shown(guest) == [*own, (bar.start, bar.size, WC, 1), (held.start, held.size, WC, 1)]
    # Who takes one off takes all: the register is free.
    assert guest.process("Xorg").mtrr_delete(3).accepted
    assert shown(guest) == [*own, (held.start, held.size, WC, 1)]
    assert len({each.mtrr for each in guest.registers()}) == 1
    assert guest.register_disagreements() == ()


@CPUS
@pytest.mark.layout(LAYOUT)
def test_lists_are_empty(guest: Guest, cpus: int) -> None:
    """What was mapped WC can be mapped UC- now, by drivers and processes, and that is no alias."""
    bar = guest.mmio(pages=16)
    assert guest.driver("drm").ioremap(bar, WC).accepted
    assert guest.process("Xorg").mmap(bar, WC).accepted
    second = guest.driver("fbdev").ioremap(bar, UC_MINUS)
    assert second.verdict.rule == "alias"
    assert second.granted is WC
    assert [each.memtype for each in guest.memtype_list(bar)] == [WC] * 3
    assert [each.owner for each in guest.tracked(bar)] == ["drm", "Xorg"]

    guest.kexec()

    assert guest.memtype_list(bar) == ()
    assert guest.tracked(observed=False) == ()
    assert set(guest.effective(bar)) == {None}
    assert guest.verify(bar, UC_MINUS).accepted
    drm, process = guest.driver("drm"), guest.process("Xorg")
    mapped, theirs = drm.ioremap(bar, UC_MINUS), process.mmap(bar, UC_MINUS)
    for outcome in (mapped, theirs):
        assert outcome.accepted
        assert (outcome.granted, outcome.effective) == (UC_MINUS, EffectiveType.UC)
    assert mapped.mapping is not None
    registers = guest.registers()
    assert len(registers) == cpus
    assert drm.page_table(mapped.mapping, registers[-1]) == (UC_MINUS,) * 16
    assert [each.memtype for each in guest.memtype_list(bar)] == [UC_MINUS] * 2
    assert [each.owner for each in guest.tracked(bar)] == ["drm", "Xorg"]
    assert guest.audit().conflicts == ()


@pytest.mark.parametrize(
    ("cpus", "strong"),
    [
        pytest.param(1, EffectiveType.CD, id="AMD"),
        pytest.param(
            2,
            EffectiveType.UC,
            marks=[
                pytest.mark.hardware(cpu="qemu64,vendor=GenuineIntel", cpus=2),
                pytest.mark.needs_config("SMP", "ACPI"),
            ],
            id="Intel",
        ),
    ],
)
@pytest.mark.layout(COVERED)
def test_a_write_combining_mtrr_that_was_left_behind(guest: Guest, cpus: int, strong: EffectiveType) -> None:
    """UC- over it is WC, and nobody of the new kernel has asked for that.

    What UC and UC- come to is in AMD's and Intel's tables (APM vol. 2, "Combined Effect of MTRRs and PAT";
    SDM vol. 3, "Effective Page-Level Memory Types for Pentium III and More Recent Processor Families"). Linux
    asks the MTRRs where WB is wanted, and takes UC- over any but WB (pat_x_mtrr_type(),
    arch/x86/mm/pat/memtype.c).
    """
    bar, beside = guest.mmio(pages=64, align=64), guest.mmio(pages=16)
    asked, combined = bar[:16], bar[16:32]
    assert guest.process("Xorg").mtrr_add(bar.start, bar.size, WC).accepted

    guest.kexec()

    drm = guest.driver("drm")
    mapped = drm.ioremap(asked, UC_MINUS)
    assert mapped.verdict.accepted
    assert mapped.verdict.hazards == ("mtrr-uncached-combines",)
    assert (mapped.granted, mapped.effective) == (UC_MINUS, EffectiveType.WC)
    assert [(each.region, each.memtype) for each in guest.memtype_list(asked)] == [(asked, UC_MINUS)]
    assert [each.memtype for each in guest.tracked(asked)] == [UC_MINUS]
    for memtype, region, granted, effective in (
        (WC, combined, WC, EffectiveType.WC),
        (UC, bar[32:48], UC, strong),
        (WB, bar[48:], UC_MINUS, EffectiveType.WC),
        (UC_MINUS, beside, UC_MINUS, EffectiveType.UC),
    ):
        outcome = drm.ioremap(region, memtype)
        assert outcome.verdict.accepted
        assert outcome.verdict.hazards == ()
        assert (outcome.granted, outcome.effective) == (granted, effective)
    assert mapped.mapping is not None
    for each in guest.registers():
        assert drm.page_table(mapped.mapping, each) == (UC_MINUS,) * 16
    assert guest.register_disagreements() == ()

    assert guest.process("late").mtrr_delete(1).accepted
    assert set(guest.effective(asked)) == {EffectiveType.UC}
    assert set(guest.effective(combined)) == {EffectiveType.WC}
    assert len(guest.registers()) == cpus


@CPUS
@pytest.mark.layout(LAYOUT)
def test_pat_is_programmed_again(guest: Guest, cpus: int) -> None:
    """Whatever is in it, on each CPU (pat_init(), arch/x86/mm/pat/memtype.c). The MTRRs aren't touched."""
    before = guest.registers()
    guest.change_registers(lambda cpu: replace(cpu, pat_value=RESET_PAT))
    assert [each.pat_value for each in guest.registers()] == [RESET_PAT] * cpus

    guest.kexec()

    assert [each.pat_value for each in guest.registers()] == [each.pat_value for each in before]
    assert [each.mtrr for each in guest.registers()] == [each.mtrr for each in before]
    assert guest.register_disagreements() == ()
    outcome = guest.driver("drm").ioremap(guest.mmio(pages=16), WC)
    assert outcome.accepted
    assert (outcome.granted, outcome.effective) == (WC, EffectiveType.WC)


def test_ram_is_write_back_again(guest: Guest) -> None:
    """The type of a page of RAM is kept in its struct page and in the direct map, and both are made anew."""
    ram = guest.ram(pages=4)
    assert guest.driver("drm").set_memory(ram, WC).granted is WC
    assert set(guest.kernel.direct_pages(ram).types) == {WC}
    guest.kexec()
    assert set(guest.kernel.direct_pages(ram).types) == {WB}
    assert guest.tracked(ram) == ()


@pytest.mark.layout(COVERED)
@pytest.mark.hardware(cmdline="nokaslr")
def test_ram_that_an_mtrr_makes_uncached_is_lost(guest: Guest) -> None:
    """The new kernel takes it for a mistake of the firmware's (mtrr_trim_uncached_memory(),
    arch/x86/kernel/cpu/mtrr/cleanup.c). At random, the kernel could lie there itself."""
    hole = guest.region(96 * MIB, 16 * MIB)
    complaint = "BIOS bug: CPU MTRRs don't cover all of memory, losing 16MB of RAM"
    assert guest.process("odd").mtrr_add(hole.start, hole.size, UC).accepted
    assert ram_in(guest, hole.start)

    guest.kexec()

    assert complaint in guest.shell("dmesg").output
    # The new kernel warns of it as it boots, so this is no report of the test's.
    assert any("WARNING" in line and "mtrr_trim_uncached_memory" in line for line in guest.log)
    assert guest.reports() == ()
    assert not ram_in(guest, hole.start)
    assert not ram_in(guest, hole.end - 1)
    assert ram_in(guest, hole.start - 1)
    assert ram_in(guest, hole.end)


def ram_in(guest: Guest, address: int) -> bool:
    """Is there RAM at an address, by the kernel's own map?"""
    lines = guest.shell("cat /proc/iomem").output.splitlines()
    # What is indented lies inside another.
    ram = [line.split()[0].split("-") for line in lines if line.endswith(" : System RAM") and line[0] != " "]
    return any(int(start, 16) <= address <= int(end, 16) for start, end in ram)


@pytest.mark.layout(COVERED)
def test_twice(guest: Guest) -> None:
    """What one kernel adds the next has, and the one after that, too."""
    bar = guest.mmio(pages=32, align=32)
    for n in range(2):
        part = bar[16 * n : 16 * n + 16]
        assert guest.process("Xorg").mtrr_add(part.start, part.size, WC).accepted
        guest.kexec()
        assert [each.memtype for each in guest.mtrr_list()] == [WB, *[WC] * (n + 1)]
    assert guest.driver("drm").ioremap(bar, UC_MINUS).effective is EffectiveType.WC
