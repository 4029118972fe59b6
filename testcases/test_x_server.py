"""The X server beside a driver: MTRRs added and deleted by hand, the framebuffer mapped past the driver, an
end without cleaning up.

The kernel takes a process's mappings back when it ends. An MTRR is nobody's when it came as a line written
to /proc/mtrr: what is counted is how often, not by whom. One added by an ioctl goes with the open file, which
is how Xorg did it (arch/x86/kernel/cpu/mtrr/if.c, mtrr_write() and mtrr_close(); 5.10 to 7.3).
"""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from pytest_memtype import EffectiveType, Guest, Layout, MemType, Process, Region
from pytest_memtype.guest.outcome import Mapping, Outcome

WB, WC, UC, UC_MINUS, WT = MemType.WB, MemType.WC, MemType.UC, MemType.UC_MINUS, MemType.WT
CD = EffectiveType.CD

MIB = 1 << 20

# No range at all, so that one that is added has no other to give way to.
BARE = pytest.mark.layout(Layout("bare", default=WB))
# RAM write-back by register 0, all device memory uncached by default.
UC_DEFAULT = pytest.mark.layout("uc-default")

ends = pytest.mark.parametrize(
    "end", [Process.exit, Process.kill, Process.exec], ids=lambda end: str(end.__name__)
)

# Each way of a process that isn't the driver's own device, with a type it can ask for.
WAYS = [("sysfs", WC), ("sysfs", UC_MINUS), ("devmem", UC_MINUS), ("devmem", WB)]
ways = pytest.mark.parametrize(("via", "memtype"), WAYS, ids=lambda value: str(value))


def framebuffer(guest: Guest) -> Region:
    """64 KiB at a multiple of their size, so that one MTRR can hold them."""
    return guest.mmio(pages=16, align=16)


def mapping_of(outcome: Outcome) -> Mapping:
    assert outcome.mapping is not None, str(outcome)
    return outcome.mapping


def owners(guest: Guest, region: Region) -> list[str]:
    return sorted(each.owner for each in guest.tracked(region))


def listed(guest: Guest, region: Region) -> list[tuple[Region, MemType]]:
    return [(each.region, each.memtype) for each in guest.memtype_list(region)]


def ranges(guest: Guest) -> list[tuple[int, int, MemType, int]]:
    """What /proc/mtrr shows of device memory."""
    return [
        (each.base, each.size, each.memtype, each.count)
        for each in guest.mtrr_list()
        if each.base >= 0xC0000000
    ]


@UC_DEFAULT
@ends
@ways
@pytest.mark.parametrize("driver_type", [WC, UC_MINUS], ids=str)
def test_end_without_cleaning_up(
    guest: Guest, driver_type: MemType, via: str, memtype: MemType, end: Callable[[Process], None]
) -> None:
    """The server's mappings and records go with it, the driver's stay, and so does the MTRR."""
    bar = framebuffer(guest)
    drm = guest.driver("drm")
    ours = drm.ioremap(bar, driver_type)
    x_server = guest.process("Xorg")
    assert x_server.mtrr_add(bar.start, bar.size, WC).accepted

    theirs = x_server.mmap(bar, memtype, via=via)
    # remap_pfn_range() gives the type in use already (memtype_check_insert(), is_new_memtype_allowed();
    # arch/x86/mm/pat/memtype.c), and the verifier knows one type for a page.
    assert theirs.kernel.accepted
    assert theirs.granted is driver_type
    assert theirs.verdict.accepted is (memtype is driver_type)
    assert owners(guest, bar) == (["Xorg", "drm"] if memtype is driver_type else ["drm"])
    assert set(listed(guest, bar)) == {(bar, driver_type)}
    end(x_server)

    assert owners(guest, bar) == ["drm"]
    assert listed(guest, bar) == [(bar, driver_type)]
    assert ranges(guest) == [(bar.start, bar.size, WC, 1)]
    assert set(drm.page_table(mapping_of(ours), guest.registers()[0])) == {driver_type}
    # What is left of the server changes what the driver has: AMD APM vol. 2, "Combined Effect of MTRRs and
    # PAT", UC- and WC over WC. Before, UC- over UC was UC.
    assert ours.effective is (EffectiveType.WC if driver_type is WC else EffectiveType.UC)
    assert set(guest.effective(bar)) == {EffectiveType.WC}


@UC_DEFAULT
@ways
def test_driver_that_comes_after_the_server(guest: Guest, via: str, memtype: MemType) -> None:
    """Beside the live server it gets the server's type; of what the dead one had, nothing is in its way."""
    bar = framebuffer(guest)
    x_server = guest.process("Xorg")
    x_server.mtrr_add(bar.start, bar.size, WC)
    # A WB request over anything but WB becomes UC- (pat_x_mtrr_type()).
    in_use = UC_MINUS if memtype is WB else memtype
    assert x_server.mmap(bar, memtype, via=via).granted is in_use
    asked = UC_MINUS if in_use is WC else WC
    drm = guest.driver("drm")

    beside = drm.ioremap(bar, asked)
    drm.release(mapping_of(beside))
    x_server.exit()
    alone = drm.ioremap(bar, asked)

    assert beside.verdict.rule == "alias"
    assert beside.verdict.conflict is not None
    assert beside.verdict.conflict.owner == "Xorg"
    assert beside.granted is in_use
    assert alone.accepted
    assert listed(guest, bar) == [(bar, asked)]


@UC_DEFAULT
def test_child_of_the_server_keeps_the_framebuffer(guest: Guest) -> None:
    """What a child has inherited lives until it ends too, however its parent died."""
    bar = framebuffer(guest)
    drm = guest.driver("drm")
    drm.ioremap(bar, WC)
    x_server = guest.process("Xorg")
    x_server.mtrr_add(bar.start, bar.size, WC)
    mapping = mapping_of(x_server.mmap(bar, WC, via="sysfs"))
    child = x_server.fork("xkbcomp")

    x_server.kill()

    assert owners(guest, bar) == ["drm", "xkbcomp"]
    child.write(mapping, page=15, value=7)
    assert child.read(mapping, page=15) == 7
    child.exit()
    assert owners(guest, bar) == ["drm"]
    assert listed(guest, bar) == [(bar, WC)]
    assert ranges(guest) == [(bar.start, bar.size, WC, 1)]


@UC_DEFAULT
def test_server_that_dies_again_and_again(guest: Guest) -> None:
    """Each start counts the range once more; the one that cleans up at last frees nothing."""
    bar = framebuffer(guest)
    for starts in (1, 2, 3):
        x_server = guest.process("Xorg")
        assert x_server.mtrr_add(bar.start, bar.size, WC).accepted
        assert x_server.mmap(bar, WC, via="sysfs").accepted
        x_server.kill()
        assert ranges(guest) == [(bar.start, bar.size, WC, starts)]
        assert guest.tracked(bar) == ()
        assert listed(guest, bar) == []

    tidy = guest.process("Xorg")
    tidy.mtrr_add(bar.start, bar.size, WC)
    (register,) = (each.index for each in guest.mtrr_list() if each.base == bar.start)
    assert tidy.mtrr_delete(register).accepted
    tidy.exit()
    assert ranges(guest) == [(bar.start, bar.size, WC, 3)]


@UC_DEFAULT
@ends
def test_range_that_the_server_holds(guest: Guest, end: Callable[[Process], None]) -> None:
    """Added by ioctl it goes with the server, or with the last child that has inherited the file."""
    bar, other = framebuffer(guest), framebuffer(guest)
    x_server = guest.process("Xorg")
    assert x_server.mtrr_add(bar.start, bar.size, WC, held=True).accepted
    assert x_server.mtrr_add(bar.start, bar.size, WC, held=True).accepted
    assert x_server.mtrr_add(other.start, other.size, WC).accepted
    assert ranges(guest) == [(bar.start, bar.size, WC, 2), (other.start, other.size, WC, 1)]
    mapped = guest.driver("drm").ioremap(bar, UC_MINUS)
    child = x_server.fork("xkbcomp")

    end(x_server)
    with_child = ranges(guest)
    child.exit()

    assert with_child == [(bar.start, bar.size, WC, 2), (other.start, other.size, WC, 1)]
    assert ranges(guest) == [(other.start, other.size, WC, 1)]
    assert (mapped.effective, set(guest.effective(bar))) == (EffectiveType.WC, {EffectiveType.UC})


@UC_DEFAULT
def test_held_range_in_the_way_of_a_line(guest: Guest) -> None:
    """Deleted by number it is gone; whoever has the register when the holder ends loses it."""
    bar = framebuffer(guest)
    x_server, other = guest.process("Xorg"), guest.process("mtrr-set")
    x_server.mtrr_add(bar.start, bar.size, WC, held=True)
    (register,) = (each.index for each in guest.mtrr_list() if each.base == bar.start)

    assert other.mtrr_delete(register).accepted
    assert ranges(guest) == []
    assert other.mtrr_add(bar.start, bar.size, WT).accepted
    x_server.exit()

    # mtrr_close() deletes by number, whoever has the register by now.
    assert ranges(guest) == []


@UC_DEFAULT
def test_registers_run_out(guest: Guest) -> None:
    """Servers that die with another mode each time use up all registers, and the next gets ENOSPC."""
    free = 8 - len(guest.mtrr_list())
    for _ in range(free):
        bar = framebuffer(guest)
        dead = guest.process("Xorg")
        assert dead.mtrr_add(bar.start, bar.size, WC).accepted
        dead.kill()
    bar = framebuffer(guest)
    x_server = guest.process("Xorg")

    refused = x_server.mtrr_add(bar.start, bar.size, WC)

    # mtrr_add_page(): "no more MTRRs available". Page tables still give what the MTRRs can't.
    assert refused.errno == errno.ENOSPC
    assert refused.registers is not None
    assert len(refused.registers) == 8
    assert x_server.mmap(bar, WC, via="sysfs").granted is WC


def asked_by_driver(guest: Guest, bar: Region) -> tuple[Outcome, Callable[[], set[MemType | None]]]:
    driver = guest.driver("fbdev")
    outcome = driver.ioremap(bar, WB)
    return outcome, lambda: set(driver.page_table(mapping_of(outcome), guest.registers()[0]))


def remapped_by_driver(guest: Guest, bar: Region) -> tuple[Outcome, Callable[[], set[MemType | None]]]:
    driver = guest.driver("fbdev")
    outcome = driver.memremap(bar, WB)
    return outcome, lambda: set(driver.page_table(mapping_of(outcome), guest.registers()[0]))


def asked_by_process(
    via: str,
) -> Callable[[Guest, Region], tuple[Outcome, Callable[[], set[MemType | None]]]]:
    def ask(guest: Guest, bar: Region) -> tuple[Outcome, Callable[[], set[MemType | None]]]:
        process = guest.process(f"client at {bar.start:#x}")
        outcome = process.mmap(bar, WB, via=via)
        return outcome, lambda: set(process.page_table(mapping_of(outcome), guest.registers()[0]))

    return ask


@UC_DEFAULT
@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(asked_by_driver, id="ioremap"),
        pytest.param(remapped_by_driver, id="memremap"),
        pytest.param(asked_by_process("driver"), id="mmap"),
        pytest.param(asked_by_process("devmem"), id="devmem"),
    ],
)
def test_write_back_request_follows_proc_mtrr(
    guest: Guest, ask: Callable[[Guest, Region], tuple[Outcome, Callable[[], set[MemType | None]]]]
) -> None:
    """UC- as long as the MTRRs don't say WB; what was mapped before keeps what it got (pat_x_mtrr_type())."""
    window = guest.mmio(pages=64, align=64)
    first, second, third = window[:16], window[16:32], window[32:48]
    x_server = guest.process("Xorg")

    before, before_now = ask(guest, first)
    assert x_server.mtrr_add(window.start, window.size, WB).accepted
    during, during_now = ask(guest, second)
    before_during = guest.effective(first)[0], before_now()
    (register,) = (each.index for each in guest.mtrr_list() if each.base == window.start)
    assert x_server.mtrr_delete(register).accepted
    after, _ = ask(guest, third)

    assert (before.granted, before.effective) == (UC_MINUS, EffectiveType.UC)
    assert (during.granted, during.effective) == (WB, EffectiveType.WB)
    assert (after.granted, after.effective) == (UC_MINUS, EffectiveType.UC)
    # The painful case: AMD APM vol. 2, UC- over WB is CD. And back again, WB over UC is UC.
    assert before_during == (CD, {UC_MINUS})
    assert during_now() == {WB}
    assert set(guest.effective(second)) == {EffectiveType.UC}
    # The verifier goes by what was asked for. Linux would not have shared second with a UC- request.
    assert before.verdict.accepted
    assert guest.verify(first, UC_MINUS).rule == "alias"
    assert [kept for _, kept in listed(guest, window)] == [UC_MINUS, WB, UC_MINUS]


@UC_DEFAULT
def test_old_mapping_decides_over_the_new_mtrr(guest: Guest) -> None:
    """A page mapped UC- because of the MTRRs stays UC- for whoever asks for WB later."""
    bar = framebuffer(guest)
    old = guest.driver("drm").ioremap(bar, WB)
    guest.process("Xorg").mtrr_add(bar.start, bar.size, WB)

    new = guest.driver("fbdev").ioremap(bar, WB)

    assert old.granted is UC_MINUS
    assert new.verdict.accepted
    assert new.granted is UC_MINUS
    assert new.effective is CD


@pytest.mark.layout("firmware")
def test_range_inside_the_uncached_one(guest: Guest) -> None:
    """UC and any other type are compatible (types_compatible(), mtrr.c): accepted, and UC still wins."""
    bar = framebuffer(guest)
    mapped = guest.driver("drm").ioremap(bar, UC_MINUS)

    answer = guest.process("Xorg").mtrr_add(bar.start, bar.size, WC)

    assert answer.accepted
    assert ranges(guest) == [(0xC0000000, 1 << 30, UC, 1), (bar.start, bar.size, WC, 1)]
    assert set(guest.effective(bar)) == {EffectiveType.UC}
    assert mapped.granted is UC_MINUS


@BARE
def test_range_inside_one_of_another_type(guest: Guest) -> None:
    """WC inside WB is refused ("type mismatch", mtrr_add_page()), and nothing has changed."""
    bar = framebuffer(guest)
    x_server = guest.process("Xorg")
    assert x_server.mtrr_add(0xFC000000, "32M", WB).accepted

    answer = x_server.mtrr_add(bar.start, bar.size, WC)

    assert answer.errno == errno.EINVAL
    assert any("type mismatch for" in line for line in answer.log)
    assert ranges(guest) == [(0xFC000000, 32 * MIB, WB, 1)]


@pytest.mark.layout("firmware")
def test_firmwares_range_deleted_and_not_restored(guest: Guest) -> None:
    """The server takes the PCI hole's range away and dies: all mappings of all devices lie over WB now."""
    bar, untouched = framebuffer(guest), framebuffer(guest)
    drm = guest.driver("drm")
    device = drm.ioremap(bar, UC_MINUS)
    x_server = guest.process("Xorg")

    assert x_server.mtrr_delete(0).registers == ()
    x_server.kill()

    assert guest.mtrr_list() == ()
    assert device.verdict.hazards == ()
    assert guest.verify(bar, UC_MINUS).hazards == ("mtrr-wb-uncached",)
    assert set(guest.effective(bar)) == {CD}
    assert drm.ioremap(untouched, WB).effective is EffectiveType.WB
    assert [str(change) for change in guest.rewritten()] == [
        # Intel SDM vol. 3, "IA32_MTRR_PHYSMASKn MSR": 1 GiB of 40 bits, and V. Linux leaves the base alone
        # (generic_set_mtrr()).
        "CPU 0: MTRR 0x201 is 0x0, not 0xffc0000800",
    ]


@BARE
@pytest.mark.hardware(cmdline="nopat")
def test_server_and_driver_share_a_register(guest: Guest) -> None:
    """Without PAT the driver asks for the same range: one register, and the last to let go frees it."""
    bar = framebuffer(guest)
    drm = guest.driver("drm")
    ours = mapping_of(drm.phys_wc_add(bar))
    x_server = guest.process("Xorg")
    x_server.mtrr_add(bar.start, bar.size, WC)
    assert ranges(guest) == [(bar.start, bar.size, WC, 2)]

    x_server.kill()
    drm.release(ours)

    assert ranges(guest) == [(bar.start, bar.size, WC, 1)]


@BARE
@pytest.mark.hardware(cmdline="nopat")
def test_server_takes_the_drivers_range_away(guest: Guest) -> None:
    """/proc/mtrr asks nobody whose range it is, and the driver's page table can't say WC without PAT."""
    bar = framebuffer(guest)
    drm = guest.driver("drm")
    ours = mapping_of(drm.phys_wc_add(bar))
    mapped = drm.ioremap(bar, WC)

    assert guest.process("Xorg").mtrr_delete(0).registers == ()

    # Slots without PAT: WB WT UC- UC, and WC becomes UC- (pat.rst).
    assert (mapped.granted, mapped.effective) == (UC_MINUS, EffectiveType.WC)
    assert set(guest.effective(bar)) == {CD}
    drm.release(ours)
    assert guest.mtrr_list() == ()
