"""The layout that was asked for is the layout the guest has, on every CPU."""

from __future__ import annotations

import pytest

from pytest_memtype import EffectiveType, Guest, Layout, MemType, MtrrRange

pytestmark = pytest.mark.needs_module

UC, WB, WC, UC_MINUS = MemType.UC, MemType.WB, MemType.WC, MemType.UC_MINUS

# The enable bits of IA32_MTRR_DEF_TYPE: E and FE (Intel SDM, "IA32_MTRR_DEF_TYPE MSR").
ENABLED = 0xC00
VALID = 0x800


def expected_pairs(guest: Guest) -> list[tuple[int, int]]:
    """The base and mask registers of the layout, worked out here from the manual's definition."""
    width = guest.registers()[0].physical_bits
    return [(each.base | each.memtype, ((1 << width) - each.size) | VALID) for each in guest.layout.ranges]


def proc_mtrr(guest: Guest) -> list[tuple[int, int, str]]:
    """Base, size in MiB and type of each line of /proc/mtrr."""
    lines = guest.shell("cat /proc/mtrr").output.splitlines()
    found = []
    for line in lines:
        # reg01: base=0x0fd000000 ( 4048MB), size=   16MB, count=1: write-combining
        base = int(line.split("base=")[1].split()[0], 16)
        size = int(line.split("size=")[1].split("MB")[0])
        found.append((base, size, line.rsplit(": ", 1)[1]))
    return found


def assert_layout(guest: Guest, cpus: int) -> None:
    """/proc/mtrr and every CPU's registers show exactly the guest's layout."""
    registers = guest.registers()
    assert len(registers) == cpus
    assert len({each.mtrr for each in registers}) == 1
    if guest.layout.default is None:
        # SeaBIOS, src/fw/mtrr.c: write-back by default, and UC from the PCI hole to 4 GiB.
        assert proc_mtrr(guest) == [(0xC0000000, 1024, "uncachable")]
        return
    for each in registers:
        assert each.mtrr is not None
        assert each.mtrr.default_type_register == ENABLED | guest.layout.default
        unused = 8 - len(guest.layout.ranges)
        assert list(each.mtrr.variable) == expected_pairs(guest) + [(0, 0)] * unused
    # Linux calls UC "uncachable" here.
    names = {WB: "write-back", WC: "write-combining", UC: "uncachable", MemType.WT: "write-through"}
    assert proc_mtrr(guest) == [
        (each.base, each.size >> 20, names[each.memtype]) for each in guest.layout.ranges
    ]


CPUS = pytest.mark.parametrize(
    "cpus", [pytest.param(n, marks=pytest.mark.hardware(cpus=n), id=f"{n}cpu") for n in (1, 2)]
)


@CPUS
def test_layout_of_the_run(guest: Guest, cpus: int) -> None:
    """What --layout names; with the firmware's, that all CPUs agree."""
    assert_layout(guest, cpus)


@CPUS
@pytest.mark.parametrize(
    "layout",
    [
        pytest.param(name, marks=pytest.mark.layout(name))
        for name in ("wc-framebuffer", "wb-device", "uc-default")
    ],
)
def test_named_layout(guest: Guest, layout: str, cpus: int) -> None:
    assert guest.layout.name == layout
    assert_layout(guest, cpus)


INLINE = Layout(
    "every-type",
    default=UC,
    ranges=[
        MtrrRange(0, "256M", WB),
        MtrrRange(0xFD000000, "4M", WC),
        MtrrRange(0xFD400000, "4M", MemType.WT),
        MtrrRange(0xFD800000, "4M", WB),
    ],
)


@pytest.mark.layout(INLINE)
def test_inline_layout(guest: Guest) -> None:
    """A layout written in the test; the effective type is the page table's and the MTRRs' (AMD's table)."""
    assert_layout(guest, 1)
    drm = guest.driver("drm")
    quarters = [guest.region(0xFD000000 + (n << 22), size=8192) for n in range(4)]

    outcomes = [drm.ioremap(quarter, UC_MINUS) for quarter in quarters]

    assert [outcome.granted for outcome in outcomes] == [UC_MINUS] * 4
    # AMD APM vol. 2, "Combined Effect of MTRRs and PAT", column UC-: WC, CD, CD; UC MTRR: UC.
    assert [outcome.effective for outcome in outcomes] == [
        EffectiveType.WC,
        EffectiveType.CD,
        EffectiveType.CD,
        EffectiveType.UC,
    ]
    assert [outcome.verdict.hazards for outcome in outcomes] == [
        ("mtrr-uncached-combines",),
        (),
        ("mtrr-wb-uncached",),
        (),
    ]
    assert guest.effective(quarters[1]) == (EffectiveType.CD, EffectiveType.CD)


@pytest.mark.layout("wb-device")
def test_write_back_device_memory(guest: Guest) -> None:
    """What the layout is for: a request for WB that Linux grants on device memory."""
    outcome = guest.driver("nvdimm").ioremap(guest.mmio(pages=2), WB)

    assert outcome.accepted
    assert outcome.effective is EffectiveType.WB


@pytest.mark.layout("wc-framebuffer")
def test_uncached_minus_over_write_combining_mtrr(guest: Guest) -> None:
    """UC- gives way to a WC MTRR, UC does not: why X's framebuffers were fast before PAT."""
    bar = guest.mmio(pages=4)
    minus = guest.driver("drm").ioremap(bar[0:2], UC_MINUS)
    strong = guest.driver("drm").ioremap(bar[2:4], UC)

    assert minus.effective is EffectiveType.WC
    assert strong.effective is EffectiveType.CD
    assert minus.verdict.hazards == ("mtrr-uncached-combines",)
    assert strong.verdict.hazards == ()
