"""Rule 5: memory of system-management mode is used with the type SMM uses, or not at all.

SMM begins without paging, so the type it uses is the MTRRs' (Intel SDM vol. 3, "SMM Execution
Environment"). What counts of a mapping is what comes of page table and MTRRs together. The chipset is
QEMU's q35: the registers SMRAM and ESMRAMC of its host bridge say what is SMRAM
(QEMU 7.2, hw/pci-host/q35.c, mch_update_smram()). SeaBIOS 1.16 closes the legacy window and leaves TSEG
unused and all unlocked, so a test can play the firmware that uses more.
"""

from __future__ import annotations

import errno

import pytest

from pytest_memtype import EffectiveType, Guest, Layout, MemType, MtrrRange, Region

pytestmark = pytest.mark.needs_module

WB, WC, UC, UC_MINUS, WT = MemType.WB, MemType.WC, MemType.UC, MemType.UC_MINUS, MemType.WT

HOST_BRIDGE = "/sys/bus/pci/devices/0000:00:00.0/config"
BGSM, TSEGMB, SMRAM, ESMRAMC = 0xA8, 0xAC, 0x9D, 0x9E
# SMRAM: C_BASE_SEG (hardwired), G_SMRAME, D_OPEN. ESMRAMC: T_EN, and the size in bits 2:1.
CLOSED, OPEN, NO_SMRAM, T_EN = 0x0A, 0x4A, 0x02, 0x01

LEGACY = Region(0xA0000, 32)
MIB = 1 << 20
TOP = 256 * MIB

every_type = pytest.mark.parametrize("memtype", list(MemType), ids=lambda memtype: memtype.name)
smm_on = pytest.mark.hardware(smm=True)
smm_off = pytest.mark.hardware(smm=False)
# Firmware keeps TSEG from the kernel in the memory map, and here the kernel is told to leave it alone.
room_for_tseg = pytest.mark.hardware(smm=True, memory="256M", cmdline="memmap=16M$0xf000000")


def write_register(guest: Guest, register: int, *values: int) -> None:
    octal = "".join(f"\\{value:03o}" for value in values)
    done = guest.shell(
        f"printf '{octal}' | dd of={HOST_BRIDGE} bs=1 seek={register} conv=notrunc 2>/dev/null"
    )
    assert done.status == 0, done.output


def untouched(tseg: Region) -> Region:
    """Without the last 128 KiB: QEMU puts the ACPI tables there, which the kernel has mapped."""
    return tseg[: tseg.pages - 32]


def set_tseg(guest: Guest, size: int) -> Region:
    """What firmware with SMM does: the last of low RAM becomes TSEG."""
    code = {1: 0, 2: 1, 8: 2, 16: 3}[size // MIB]
    for register, address in ((BGSM, TOP), (TSEGMB, TOP - size)):
        write_register(guest, register, *address.to_bytes(4, "little"))
    write_register(guest, ESMRAMC, 0x38 | code << 1 | T_EN)
    return guest.region(TOP - size, size)


@smm_on
@every_type
def test_legacy_window(guest: Guest, memtype: MemType) -> None:
    """SeaBIOS sets the fixed MTRRs of A0000-BFFFF to UC (src/fw/mtrr.c), so that is what SMM uses. Over UC
    only WC makes something else ("Effective Page-Level Memory Types")."""
    for part in (LEGACY, LEGACY[0], LEGACY[31]):
        verdict = guest.verify(part, memtype)
        assert verdict.accepted == (memtype is not WC)
        if memtype is WC:
            assert (verdict.rule, verdict.errno) == ("smram", errno.EPERM)
            assert verdict.conflict is None


@smm_on
def test_ends_of_the_legacy_window(guest: Guest) -> None:
    assert guest.verify(Region(0xC0000, 1), WC).accepted
    assert guest.verify(Region(0xBF000, 2), WC).rule == "smram"


@smm_off
@every_type
def test_without_smm_it_is_any_device_memory(guest: Guest, memtype: MemType) -> None:
    assert guest.verify(LEGACY, memtype).accepted
    assert guest.lookup(LEGACY).memtype is UC_MINUS


@smm_on
@pytest.mark.parametrize(
    ("register", "guarded"), [(OPEN, False), (NO_SMRAM, False), (CLOSED, True)], ids=["open", "off", "closed"]
)
def test_only_while_closed(guest: Guest, register: int, *, guarded: bool) -> None:
    """The registers are read anew for every request: no firmware has locked them."""
    write_register(guest, SMRAM, register)

    assert guest.verify(LEGACY, WC).rule == ("smram" if guarded else None)


@smm_on
def test_what_linux_does_with_the_legacy_window(guest: Guest) -> None:
    """It calls A0000-FFFFF untracked, and maps it write-back whatever is asked for (memtype_reserve())."""
    outcome = guest.driver("vgacon").ioremap(LEGACY, WC)

    assert outcome.verdict.rule == "smram"
    assert outcome.kernel.accepted
    assert outcome.granted is WB
    assert guest.tracked(LEGACY) == ()


@smm_on
def test_enforce_keeps_linux_out(guest: Guest) -> None:
    guest.policy.enforce = True

    outcome = guest.driver("vgacon").ioremap(LEGACY, WC)

    assert outcome.verdict.rule == "smram"
    assert not outcome.kernel.asked
    assert outcome.mapping is None


@pytest.mark.needs_config("DEVMEM")
@smm_on
def test_what_maps_it_and_is_used_as_smm_uses_it_is_right(guest: Guest) -> None:
    """The audit, which looks at the effective type, agrees."""
    outcome = guest.process("dosemu").mmap(LEGACY, UC_MINUS, via="devmem")

    assert outcome.verdict.accepted
    assert set(outcome.effective_pages) == {EffectiveType.UC}
    found = [each.benign for each in guest.audit().findings if each.start == LEGACY.start]
    assert found
    assert all(found)


@smm_on
@pytest.mark.layout(
    Layout(
        "vga-combining",
        default=WB,
        ranges=[MtrrRange(0xC0000000, "1G", UC)],
        fixed=[0x0606060606060606, 0x0606060606060606, 0x0101010101010101, *[0x0505050505050505] * 8],
    )
)
@every_type
def test_over_another_type_others_do(guest: Guest, memtype: MemType) -> None:
    """Over WC MTRRs the window is WC by WC, by WB and by UC-, in both vendors' tables."""
    assert guest.verify(LEGACY[0], memtype).accepted == (memtype in (WC, WB, UC_MINUS))


@smm_on
def test_lookup_of_smram(guest: Guest) -> None:
    """Nobody who doesn't care shall be told a type that is refused."""
    answer = guest.lookup(LEGACY)

    assert (answer.memtype, answer.in_use) == (UC, False)
    assert guest.verify(LEGACY, UC).accepted


@room_for_tseg
@every_type
@pytest.mark.parametrize("size", [1 * MIB, 2 * MIB, 8 * MIB, 16 * MIB], ids=lambda size: f"{size // MIB}M")
def test_tseg(guest: Guest, size: int, memtype: MemType) -> None:
    """The memory's MTRR type is write-back, and so is what SMM uses."""
    assert guest.verify(untouched(guest.region(TOP - size, size)), memtype).accepted

    tseg = set_tseg(guest, size)

    for part in (untouched(tseg), tseg[0], tseg[tseg.pages - 1]):
        verdict = guest.verify(part, memtype)
        assert verdict.accepted == (memtype is WB)
        if memtype is not WB:
            assert (verdict.rule, verdict.errno) == ("smram", errno.EPERM)
    below = guest.region(tseg.start - 4096, 4096)
    if size < 16 * MIB:
        assert guest.verify(below, memtype).accepted
        assert guest.verify(guest.region(below.start, 8192), memtype).accepted == (memtype is WB)


@room_for_tseg
def test_tseg_needs_smram_at_all(guest: Guest) -> None:
    """T_EN means nothing without G_SMRAME ("Intel 3 Series Express Chipset Family Datasheet", ESMRAMC)."""
    tseg = set_tseg(guest, MIB)
    write_register(guest, SMRAM, NO_SMRAM)

    assert guest.verify(untouched(tseg), WC).accepted


@room_for_tseg
@pytest.mark.layout(
    Layout(
        "uncached-tseg", default=WB, ranges=[MtrrRange(TOP - MIB, MIB, UC), MtrrRange(0xFD000000, "16M", UC)]
    )
)
def test_the_type_is_the_mtrrs(guest: Guest) -> None:
    tseg = set_tseg(guest, MIB)

    accepted = {memtype for memtype in MemType if guest.verify(untouched(tseg), memtype).accepted}

    # Over UC only WC makes something else.
    assert accepted == set(MemType) - {WC}


@room_for_tseg
def test_an_alias_in_smram_is_an_alias_first(guest: Guest) -> None:
    """The rules are asked in the order of their numbers."""
    tseg = set_tseg(guest, MIB)
    assert guest.driver("smi").ioremap(tseg[0], WB).verdict.accepted

    assert guest.verify(tseg[0:2], WC).rule == "alias"
    assert guest.verify(tseg[1:2], WC).rule == "smram"


@room_for_tseg
def test_the_machine_agrees_where_tseg_is(guest: Guest) -> None:
    """Outside SMM its pages read as ones and keep nothing, and the page below is RAM as before."""
    region = guest.region(TOP - MIB - 4096, 3 * 4096)
    process = guest.process("peek")
    mapping = process.mmap(region, UC_MINUS).mapping
    assert mapping
    for page in (0, 1, 2):
        process.write(mapping, page, 0x1234)

    set_tseg(guest, MIB)

    assert [process.read(mapping, page) for page in (0, 1, 2)] == [0x1234, 0xFFFFFFFF, 0xFFFFFFFF]
