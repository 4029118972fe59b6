"""Each named layout under each kernel: its registers stay, and what requests are granted over it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from pytest_memtype import EffectiveType, Guest, Layout, MemType, MtrrRange, Outcome

pytestmark = pytest.mark.needs_module

UC, UC_MINUS, WC, WT, WP, WB = (MemType[name] for name in ("UC", "UC_MINUS", "WC", "WT", "WP", "WB"))

BAR = 0xFD000000
MIB = 1 << 20

# Megabytes of the test device's 16, and what the MTRRs say from there on. Intel SDM vol. 3, "MTRR
# Precedences": UC wins, WT wins over WB, other overlaps are undefined: None.
WINDOWS: dict[str, dict[int, MemType | None]] = {
    "firmware": {0: UC},
    "uc-default": {0: UC},
    "wb-device": {0: WB},
    "wc-framebuffer": {0: WC},
    "wt-ram-range": {0: UC},
    "wp-range": {0: WP},
    "overlap-uc-wins": {0: UC},
    "overlap-wt-wb": {0: WT, 4: WB},
    "overlap-undefined": {0: WC, 4: None, 8: None, 12: UC},
    "discontinuous-mask": {0: WC, 1: UC, 4: WC, 5: UC, 8: WC, 12: WC, 13: UC},
    "mtrr-disabled": {0: UC},
    "fixed-ranges-off": {0: UC},
    "inconsistent-cpus": {0: WC},
    "all-registers-used": {0: UC},
    "painful-case": {0: WB},
    "ram-not-covered": {0: UC},
}

HARDWARE = {
    "inconsistent-cpus": pytest.mark.hardware(cpus=2),
}

LAYOUTS = [
    pytest.param(name, marks=[pytest.mark.layout(name), *([HARDWARE[name]] if name in HARDWARE else [])])
    for name in WINDOWS
]

# AMD APM vol. 2, "Combined Effect of MTRRs and PAT": the guests' CPU is AMD's. A row for each MTRR type.
GRANTED = (UC, UC_MINUS, WC, WT, WP, WB)
AMD = {
    UC: "UC UC WC UC UC UC",
    WC: "CD WC WC CD CD WC",
    WT: "CD CD WC WT CD WT",
    WP: "CD CD WC CD WP WP",
    WB: "CD CD WC WT WP WB",
}


def effective(mtrr: MemType | None, granted: MemType) -> EffectiveType:
    if mtrr is None:
        return EffectiveType.UNDEFINED
    return EffectiveType(AMD[mtrr].split()[GRANTED.index(granted)])


def without_pat(guest: Guest) -> bool:
    """Whether the kernel left the PAT as the reset did: with MTRRs off, before 6.12 ("skipping PAT")."""
    return not guest.layout.enabled and guest.version < (6, 12)


def granted_by_linux(guest: Guest, operation: str, requested: MemType, mtrr: MemType | None) -> MemType:
    """What a driver or a process gets of device memory that nobody else has mapped."""
    if without_pat(guest):
        # WB WT UC- UC, twice: what no slot holds becomes UC- (pat.rst; __cachemode2pte_tbl). A WB request is
        # untracked in 5.10, and in 6.1 a CPU without enabled MTRRs counts as one whose MTRRs say UC.
        if requested is WB:
            return WB if guest.version < (6, 0) else UC_MINUS
        return UC_MINUS if requested in (WC, WP) else requested
    if requested is WB:
        # pat_x_mtrr_type(), arch/x86/mm/pat/memtype.c: only this request looks at the MTRRs.
        return WB if mtrr is WB else UC_MINUS
    # __ioremap_caller(), arch/x86/mm/ioremap.c, knows no WP and makes it UC; remap_pfn_range() takes it.
    return UC if requested is WP and operation == "ioremap" else requested


def fresh_pages(layout: str) -> Iterator[tuple[int, MemType | None]]:
    """Addresses of two pages that nobody has mapped, in each window in turn."""
    for number in count():
        for megabyte, mtrr in WINDOWS[layout].items():
            yield BAR + megabyte * MIB + (number << 14), mtrr


def check(guest: Guest, outcome: Outcome, mtrr: MemType | None) -> None:
    expected = granted_by_linux(guest, outcome.operation, outcome.requested, mtrr)
    assert outcome.kernel.accepted
    assert outcome.granted is expected, f"{outcome.requested} over {mtrr}"
    assert outcome.effective is effective(mtrr, expected)
    # The thread's painful case; asked for by type, because that is what the verifier compares.
    hazards = {
        "mtrr-wb-uncached": mtrr is WB and outcome.requested in (UC, UC_MINUS),
        # The default CPU is AMD's, whose table has UC- over WP as CD.
        "mtrr-uncached-combines": mtrr is WC and outcome.requested is UC_MINUS,
        "mtrr-undefined": mtrr is None,
    }
    assert set(outcome.verdict.hazards) == {hazard for hazard, there in hazards.items() if there}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_requests(guest: Guest, layout: str) -> None:
    """Each type, asked for by a driver and by a process, over each MTRR type of the layout."""
    pages = fresh_pages(layout)
    driver, process = guest.driver("drm"), guest.process("X")
    for requested in MemType:
        for _ in WINDOWS[layout]:
            address, mtrr = next(pages)
            check(guest, driver.ioremap(guest.region(address, size=8192), requested), mtrr)
            address, mtrr = next(pages)
            check(guest, process.mmap(guest.region(address, size=8192), requested), mtrr)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_registers_stay(guest: Guest, layout: str) -> None:
    """Linux changes none of them, and gives all CPUs the boot CPU's."""
    assert guest.layout.name == layout
    assert guest.rewritten() == ()
    for cpu in guest.registers():
        assert cpu.mtrr is not None
        # Intel SDM vol. 3, "IA32_MTRR_DEF_TYPE MSR": E is bit 11, FE bit 10. SeaBIOS: both, and WB.
        flags = guest.layout.enabled << 11 | guest.layout.fixed_enabled << 10
        assert cpu.mtrr.default_type_register == flags | (guest.layout.default or 0) | WB * (
            layout == "firmware"
        )


@pytest.mark.parametrize("cpus", [pytest.param(2, marks=pytest.mark.hardware(cpus=2))])
@pytest.mark.layout("inconsistent-cpus")
def test_other_cpus_are_corrected(guest: Guest, cpus: int) -> None:
    """mtrr_state_warn(), arch/x86/kernel/cpu/mtrr/generic.c: only the boot CPU was programmed."""
    assert len({each.mtrr for each in guest.registers()}) == 1
    assert len(guest.registers()) == cpus
    said = guest.shell("dmesg").output
    for what in ("fixed MTRR", "variable MTRR", "MTRRdefType"):
        assert f"mtrr: your CPUs had inconsistent {what} settings" in said
    assert "mtrr: corrected configuration." in said


def end_of_ram(guest: Guest) -> int:
    """Where the kernel's own map of RAM ends."""
    lines = guest.shell("cat /proc/iomem").output.splitlines()
    # What is indented lies inside another.
    ram = [line for line in lines if line.endswith(" : System RAM") and not line.startswith(" ")]
    return int(ram[-1].partition("-")[2].partition(" ")[0], 16) + 1


@pytest.mark.layout("ram-not-covered")
@pytest.mark.parametrize(
    ("end", "said"),
    [
        # mtrr_trim_uncached_memory(), arch/x86/kernel/cpu/mtrr/cleanup.c.
        pytest.param(128 * MIB, True, id="trimmed"),
        # SeaBIOS has its ACPI tables in the last 128 KiB.
        pytest.param(
            256 * MIB - (128 << 10),
            False,
            marks=pytest.mark.hardware(cmdline="disable_mtrr_trim"),
            id="kept",
        ),
    ],
)
def test_ram_that_is_not_covered(guest: Guest, end: int, said: bool) -> None:
    complaint = "BIOS bug: CPU MTRRs don't cover all of memory, losing 127MB of RAM"
    assert (complaint in guest.shell("dmesg").output) is said
    assert end_of_ram(guest) == end
    assert guest.rewritten() == ()


HOLE_CUT_OUT = Layout(
    "hole-cut-out", default=UC, ranges=[MtrrRange(0, "4G", WB), MtrrRange(0xC0000000, "1G", UC)]
)


@pytest.mark.needs_config("MTRR_SANITIZER")
@pytest.mark.layout(HOLE_CUT_OUT)
@pytest.mark.hardware(cmdline="enable_mtrr_cleanup", cpus=2)
def test_cleanup_rewrites_the_layout(guest: Guest) -> None:
    """mtrr_cleanup(), arch/x86/kernel/cpu/mtrr/cleanup.c: 2 GiB and 1 GiB write-back, and no overlap."""
    # Intel SDM vol. 3, "Base and Mask Calculations": type in the base, V is bit 11 of the mask, 40 bits. The
    # second mask is 1 GiB's before and after.
    assert [str(change) for change in guest.rewritten()] == [
        "CPU 0: MTRR 0x201 is 0xff80000800, not 0xff00000800",
        "CPU 0: MTRR 0x202 is 0x80000006, not 0xc0000000",
        "CPU 1: MTRR 0x201 is 0xff80000800, not 0xff00000800",
        "CPU 1: MTRR 0x202 is 0x80000006, not 0xc0000000",
    ]


@pytest.mark.layout(HOLE_CUT_OUT)
def test_layout_is_kept_without_cleanup(guest: Guest) -> None:
    assert guest.rewritten() == ()


@pytest.mark.layout("all-registers-used")
def test_no_register_is_left(guest: Guest) -> None:
    """mtrr_add_page(), arch/x86/kernel/cpu/mtrr/mtrr.c: the write fails, and nothing changes."""
    adding = guest.shell("echo 'base=0xfd000000 size=0x1000000 type=write-combining' > /proc/mtrr")
    assert adding.status != 0
    assert "No space left on device" in adding.output
    assert guest.rewritten() == ()


@pytest.mark.layout("uc-default")
def test_range_added_at_run_time(guest: Guest) -> None:
    """The next free register, on each CPU; and it counts for the effective type at once."""
    bar = guest.mmio(pages=2)
    before = guest.driver("fb").ioremap(bar, UC_MINUS)
    assert guest.shell("echo 'base=0xfd000000 size=0x1000000 type=write-combining' > /proc/mtrr").status == 0
    assert [str(change) for change in guest.rewritten()] == [
        "CPU 0: MTRR 0x202 is 0xfd000001, not 0x0",
        "CPU 0: MTRR 0x203 is 0xffff000800, not 0x0",
    ]
    assert before.effective is EffectiveType.UC
    assert set(guest.effective(bar)) == {EffectiveType.WC}
