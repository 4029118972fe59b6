"""Registers changed behind the back of a kernel that runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from memtype_support.small_files import files_at_most

from pytest_memtype import Guest, Layout, MemType, MtrrRange
from pytest_memtype.errors import GuestError, LayoutError
from pytest_memtype.machine.device_state import CpuRegisters
from pytest_memtype.machine.layout import intended
from pytest_memtype.machine.state import GuestState
from pytest_memtype.x86.mtrr import MtrrState
from pytest_memtype.x86.pat import LINUX_PAT, RESET_PAT

WC, WB, UC, UC_MINUS = MemType.WC, MemType.WB, MemType.UC, MemType.UC_MINUS
LAYOUT = Layout("wc-bar", default=UC, ranges=[MtrrRange(0, "256M", WB), MtrrRange(0xFD000000, "16M", WC)])


def without_second_range(cpu: CpuRegisters) -> CpuRegisters:
    first, _, *rest = cpu.mtrr_variable
    return replace(cpu, mtrr_variable=(first, (0, 0), *rest))


def _mtrrs(cpu: CpuRegisters) -> tuple[object, ...]:
    return cpu.mtrr_default_type, cpu.mtrr_fixed, cpu.mtrr_variable


def _of(mtrrs: MtrrState) -> tuple[object, ...]:
    return mtrrs.default_type_register, mtrrs.fixed, mtrrs.variable


@pytest.mark.layout(LAYOUT)
def test_mtrrs_change_and_the_guest_goes_on(guest: Guest) -> None:
    bar = guest.mmio(pages=4)
    process = guest.process("painter")
    mapped = process.mmap(bar, WC)
    assert mapped.mapping is not None
    process.write(mapped.mapping, 0)
    before = guest.registers()[0].mtrr
    assert before is not None

    guest.change_registers(without_second_range)

    after = guest.registers()[0].mtrr
    assert after is not None
    assert (before.variable[1], after.variable[1]) == ((0xFD000001, before.variable[1][1]), (0, 0))
    assert after.variable[0] == before.variable[0]
    # The layout is what was meant; both halves of the pair differ from it now.
    assert {(change.cpu, change.msr) for change in guest.rewritten()} == {(0, 0x202), (0, 0x203)}
    # Processes, mappings and records came along.
    assert [record.owner for record in guest.tracked(bar)] == ["painter"]
    process.write(mapped.mapping, 0)
    process.munmap(mapped.mapping)
    assert guest.tracked(bar) == ()


@pytest.mark.hardware(cpus=2)
def test_one_cpu_of_two(guest: Guest) -> None:
    guest.change_registers(lambda cpu: replace(cpu, pat_value=RESET_PAT) if cpu.cpu == 1 else cpu)
    assert [each.pat_value for each in guest.registers()] == [LINUX_PAT, RESET_PAT]
    assert [each.pat_value for each in guest.registers_outside()] == [LINUX_PAT, RESET_PAT]
    # Once more: what was moved once is moved again.
    guest.change_registers(lambda cpu: replace(cpu, pat_value=LINUX_PAT))
    assert [each.pat_value for each in guest.registers()] == [LINUX_PAT, LINUX_PAT]


OTHERS = Layout("others", default=WB, ranges=[MtrrRange(0xC0000000, "1G", UC)])


@pytest.mark.hardware(cpus=2)
def test_a_layout_gives_the_other_cpus_their_own_mtrrs(guest: Guest) -> None:
    layout = Layout("differ", default=UC, ranges=[MtrrRange(0, "256M", WB)], other_cpus=OTHERS)
    bits = guest.hardware.physical_bits
    boot, other = (intended(each, physical_bits=bits) for each in (layout, OTHERS))
    assert boot != other
    guest.change_registers(layout)
    assert [_mtrrs(each) for each in guest.registers_outside()] == [_of(boot), _of(other)]
    assert [each.mtrr and each.mtrr.variable for each in guest.registers()] == [boot.variable, other.variable]
    # Without any, all have the boot CPU's, and what isn't to change stays.
    guest.change_registers(LAYOUT, cpus=[1])
    late = intended(LAYOUT, physical_bits=bits)
    assert [_mtrrs(each) for each in guest.registers_outside()] == [_of(boot), _of(late)]
    guest.change_registers(layout, cpus=[0])
    assert [_mtrrs(each) for each in guest.registers_outside()] == [_of(boot), _of(late)]
    guest.change_registers(LAYOUT)
    assert [_mtrrs(each) for each in guest.registers_outside()] == [_of(late)] * 2


@pytest.mark.hardware(cpus=2)
def test_other_cpus_that_no_mtrrs_can_have_leave_the_guest_as_it_was(guest: Guest) -> None:
    wrong = Layout("wrong", default=WB, other_cpus=Layout("others", default=WB, ranges=[MtrrRange(1, 2, UC)]))
    before = guest.registers_outside()
    with pytest.raises(LayoutError, match="other CPUs: range 1"):
        guest.change_registers(wrong)
    assert guest.registers_outside() == before


@pytest.mark.hardware(cpus=2)
def test_a_cpu_that_is_offline_has_nothing_to_disagree(guest: Guest) -> None:
    assert guest.shell("echo 0 > /sys/devices/system/cpu/cpu1/online").status == 0
    assert [each.cpu for each in guest.registers()] == [0]
    assert [each.cpu for each in guest.registers_outside()] == [0, 1]
    assert guest.register_disagreements() == ()


def test_a_full_disk_leaves_the_guest_as_it_was(guest: Guest) -> None:
    refused = pytest.raises(GuestError, match=r"can't be changed from outside: .*File too large")
    with files_at_most(1 << 20), refused:
        guest.change_registers(without_second_range)
    assert guest.rewritten() == ()
    assert guest.shell("true").status == 0


def test_what_is_no_register_set_leaves_the_guest_as_it_was(guest: Guest) -> None:
    with pytest.raises(GuestError, match="mtrr_variable is 16 registers, not 2"):
        guest.change_registers(lambda cpu: replace(cpu, mtrr_variable=cpu.mtrr_variable[:1]))
    assert guest.machine.state is not GuestState.STOPPED
    assert guest.shell("echo on").output == "on\n"
    assert guest.register_disagreements() == ()


def test_what_the_callers_function_raises_leaves_the_guest_as_it_was(guest: Guest) -> None:
    def fails(cpu: CpuRegisters) -> CpuRegisters:
        raise ZeroDivisionError(cpu.cpu)

    with pytest.raises(ZeroDivisionError):
        guest.change_registers(fails)
    assert guest.machine.state is not GuestState.STOPPED
    assert guest.shell("echo on").output == "on\n"


def test_a_guest_that_is_stopped_stays_so(guest: Guest) -> None:
    guest.qmp.execute("stop")
    guest.change_registers(lambda cpu: replace(cpu, pat_value=RESET_PAT))
    assert guest.machine.state is GuestState.STOPPED
    assert [each.pat_value for each in guest.registers_outside()] == [RESET_PAT]
    guest.machine.resume()
    assert [each.pat_value for each in guest.registers()] == [RESET_PAT]


def test_the_words_of_the_first_qemu_stay(guest: Guest) -> None:
    """An end that comes later is explained by all that QEMU has printed."""
    log = guest.machine.logs / "qemu.log"
    log.write_bytes(b"qemu: a warning\n")
    guest.change_registers(lambda cpu: cpu)
    assert log.read_bytes().startswith(b"qemu: a warning\n")
