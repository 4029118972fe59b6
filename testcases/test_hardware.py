"""Guests on other hardware: CPUs without PAT or MTRRs, of either vendor, UEFI firmware, RAM above 4 GiB."""

from __future__ import annotations

import errno

import pytest

from pytest_memtype import EffectiveType, Guest, Layout, MemType, MtrrRange, Region
from pytest_memtype.errors import AgentError

pytestmark = pytest.mark.needs_module

UC, UC_MINUS, WC, WT, WP, WB = (MemType[name] for name in ("UC", "UC_MINUS", "WC", "WT", "WP", "WB"))
CD = EffectiveType.CD

MIB = 1 << 20

# Intel SDM vol. 3, "IA32_PAT MSR": what a reset leaves there.
RESET_PAT = 0x0007040600070406

# A megabyte of the test device for each MTRR type that the vendors' tables disagree about.
VENDORS = Layout(
    "vendors",
    default=UC,
    ranges=[
        MtrrRange(0, "256M", WB),
        MtrrRange(0xFD000000, "1M", WT),
        MtrrRange(0xFD100000, "1M", WP),
        MtrrRange(0xFD200000, "1M", WB),
    ],
)

intel = pytest.mark.hardware(cpu="Nehalem")
amd = pytest.mark.hardware(cpu="phenom")


def pages(region: Region, megabyte: int, number: int) -> Region:
    """Four pages of a megabyte of the device's memory."""
    return Region(region.start + megabyte * MIB + number * 0x8000, 4)


@pytest.mark.layout(VENDORS)
@pytest.mark.parametrize(
    ("vendor", "expected"),
    [
        # Intel SDM vol. 3, "Effective Page-Level Memory Types for Pentium III and More Recent Processor
        # Families"; AMD APM vol. 2, "Combined Effect of MTRRs and PAT". Over WT: WP; over WP: UC- and WT;
        # over WB: UC-, which AMD calls CD.
        pytest.param("GenuineIntel", ["WP", "WC", "WT", "UC"], marks=intel, id="Intel"),
        pytest.param("AuthenticAMD", ["CD", "CD", "CD", "CD"], marks=amd, id="AMD"),
        pytest.param(
            "AuthenticAMD",
            ["CD", "CD", "CD", "CD"],
            marks=pytest.mark.hardware(cpu="qemu64,vendor=HygonGenuine"),
            id="Hygon",
        ),
    ],
)
def test_the_vendors_table_is_used(guest: Guest, vendor: str, expected: list[str]) -> None:
    """The same requests on the same MTRRs: for outcomes and for guest.effective()."""
    assert {each.vendor.value for each in guest.registers()} == {vendor}
    device = guest.mmio(pages=1)
    x_server = guest.process("X")
    asked = [(0, WP), (1, UC_MINUS), (1, WT), (2, UC_MINUS)]
    for number, ((megabyte, memtype), effective) in enumerate(zip(asked, expected, strict=True), start=1):
        region = pages(device, megabyte, number)
        outcome = x_server.mmap(region, memtype)
        assert outcome.granted is memtype
        assert str(outcome.effective) == effective
        assert [str(each) for each in guest.effective(region)] == [effective] * 4


# Without PAT the slots are WB WT UC- UC: what none of them holds becomes UC- (pat.rst; __cachemode2pte_tbl).
WITHOUT_PAT = [(UC, UC), (UC_MINUS, UC_MINUS), (WC, UC_MINUS), (WT, WT)]

no_pat = pytest.mark.parametrize(
    "has_pat",
    [
        pytest.param(False, marks=pytest.mark.hardware(cpu="qemu64,-pat"), id="cpu"),
        pytest.param(True, marks=pytest.mark.hardware(cmdline="nopat"), id="nopat"),
    ],
)


@no_pat
@pytest.mark.layout("wc-framebuffer")
def test_without_pat(guest: Guest, has_pat: bool) -> None:
    """The CPU has none, or the kernel was told to leave it alone: the MTRRs alone can make WC."""
    for cpu in guest.registers():
        assert (cpu.has_pat, cpu.pat_value) == (has_pat, RESET_PAT)
    for requested, granted in WITHOUT_PAT:
        outcome = guest.driver("fbdev").ioremap(guest.mmio(pages=4), requested)
        assert outcome.granted is granted
        # AMD APM vol. 2, "Combined Effect of MTRRs and PAT", the row WC.
        assert outcome.effective is (EffectiveType.WC if granted is UC_MINUS else CD)
        # The verifier knows what the PAT register holds.
        assert outcome.verdict.accepted is (requested is not WC)
        if requested is WC:
            assert (outcome.verdict.rule, outcome.verdict.errno) == ("impossible", errno.EOPNOTSUPP)


@no_pat
def test_what_linux_has_not_without_pat(guest: Guest, has_pat: bool) -> None:
    """No list of its own, and no file for write-combining in sysfs."""
    assert guest.registers()[0].has_pat is has_pat
    with pytest.raises(AgentError, match="pat_memtype_list"):
        guest.memtype_list()
    bar = guest.mmio(pages=4)
    x_server = guest.process("X")
    assert x_server.mmap(bar, WC, via="sysfs").kernel.errno == errno.ENOENT
    assert x_server.mmap(bar, UC_MINUS, via="sysfs").accepted


@pytest.mark.hardware(cpu="qemu64,-mtrr")
def test_without_mtrrs(guest: Guest) -> None:
    """Before 6.12 Linux leaves the PAT alone too ("MTRRs disabled, skipping PAT initialization too.")."""
    assert [each.mtrr for each in guest.registers()] == [None]
    with pytest.raises(AgentError, match="no MTRRs"):
        guest.mtrr_list()
    assert guest.process("X").mtrr_add(0xFD000000, "64K", WC).errno == errno.ENOENT
    with_pat = guest.version >= (6, 12)
    assert (guest.registers()[0].pat_value == RESET_PAT) is not with_pat

    bar = guest.mmio(pages=4)
    outcome = guest.driver("drm").ioremap(bar, WC)

    assert outcome.granted is (WC if with_pat else UC_MINUS)
    # No MTRR has a say: the row WB of the table.
    assert outcome.effective is (EffectiveType.WC if with_pat else CD)
    assert outcome.verdict.accepted is with_pat
    # A WB request is untracked in 5.10; from 6.1 on memory without MTRRs counts as UC (mtrr_type_lookup()).
    write_back = guest.driver("drm").ioremap(guest.mmio(pages=4), WB)
    assert write_back.granted is (WB if guest.version < (6, 0) else UC_MINUS)


@pytest.mark.hardware(firmware="ovmf", cpus=2)
@pytest.mark.layout("firmware")
def test_uefi(guest: Guest) -> None:
    """OVMF puts the device elsewhere and makes UC what no RAM is; what Linux grants is the same."""
    bar = guest.mmio(pages=16)
    # edk2 2022.11: 32-bit BARs from the end of MMCONFIG on.
    assert bar.start == 0xC0000000
    assert "EFI v2" in guest.shell("dmesg").output
    assert guest.rewritten() == ()
    assert len(guest.registers()) == 2
    assert len({each.mtrr for each in guest.registers()}) == 1
    # Nobody draws there: efifb is told to leave it.
    assert guest.observed(bar) == []

    drm, fbdev, x_server = guest.driver("drm"), guest.driver("fbdev"), guest.process("X")
    first = drm.ioremap(bar, WC)
    second = fbdev.ioremap(bar, UC_MINUS)
    third = x_server.mmap(bar, WC, via="sysfs")

    assert first.accepted
    assert third.accepted
    assert (second.verdict.rule, second.granted) == ("alias", WC)
    assert set(guest.effective(bar)) == {EffectiveType.WC}
    assert drm.ioremap(guest.mmio(pages=4), WB).granted is UC_MINUS


@pytest.mark.hardware(firmware="ovmf")
@pytest.mark.layout("firmware")
def test_layout_given_to_a_uefi_guest_that_runs(guest: Guest) -> None:
    """No boot ROM can, but from outside it works; what the layout leaves stays OVMF's."""
    bar = guest.mmio(pages=16)
    mapped = guest.driver("drm").ioremap(bar, UC_MINUS)
    late = Layout("late", default=WB, ranges=[MtrrRange(bar.start, "16M", WC)])

    guest.change_registers(late)

    assert (mapped.effective, set(guest.effective(bar))) == (EffectiveType.UC, {EffectiveType.WC})
    (cpu,) = guest.registers()
    assert cpu.mtrr is not None
    # Intel SDM vol. 3, "IA32_MTRR_PHYSBASEn": the type is in the low bits.
    assert cpu.mtrr.variable[0][0] == bar.start | WC
    assert set(cpu.mtrr.fixed[2:]) == {0}
    assert guest.rewritten() != ()


@pytest.mark.hardware(memory="2816M")
def test_ram_above_4_gib(guest: Guest) -> None:
    """What a guest writes there is read from outside at the same address, and is RAM to everybody."""
    ram = guest.ram(pages=2)
    # The kernel takes from the highest zone first: 768 MiB lie behind the PCI hole.
    assert 1 << 32 <= ram.start < 5 << 30
    x_server = guest.process("X")
    mapping = x_server.mmap(ram, WB).mapping
    assert mapping is not None
    x_server.write(mapping, page=1, value=0x2005_0830)

    assert guest.machine.memory.read(ram[1].start, 4) == (0x2005_0830).to_bytes(4, "little")
    guest.machine.memory.write(ram[0].start, (4711).to_bytes(4, "little"))
    assert x_server.read(mapping, page=0) == 4711
    assert guest.verify(ram, WC).rule == "ram-not-wb"
    assert guest.verify(guest.region(0x80000000, 4096), WC).accepted
