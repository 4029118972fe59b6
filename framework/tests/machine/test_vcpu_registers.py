"""Registers as QEMU saves them, beside what the guest reads in its MSRs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from pytest_memtype import Guest, Layout, MemType, MtrrRange
from pytest_memtype.errors import HostError
from pytest_memtype.machine.device_state import read_cpus, shape_of, with_registers
from pytest_memtype.machine.machine import Machine
from pytest_memtype.machine.program import installed
from pytest_memtype.machine.qemu_versions import QEMU
from pytest_memtype.machine.state import GuestState
from pytest_memtype.machine.vcpu_registers import (
    cpu_shape,
    learned_shape,
    outside_registers,
    save_devices,
    stopped,
)

LAYOUT = Layout(
    "two-ranges",
    default=MemType.UC,
    ranges=[MtrrRange(0, "256M", MemType.WB), MtrrRange(0xFD000000, "16M", MemType.WC)],
)


def different(one: bytes, other: bytes) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


@pytest.mark.hardware(cpus=2)
@pytest.mark.layout(LAYOUT)
def test_inside_and_outside_agree(guest: Guest) -> None:
    outside = outside_registers(guest.machine)
    inside = guest.registers()
    assert len(outside) == 2
    for ours, theirs in zip(outside, inside, strict=True):
        assert (ours.cpu, ours.pat_value, ours.mtrr) == (theirs.cpu, theirs.pat_value, theirs.mtrr)
        # Paging (CR0.PG) in long mode (EFER.LMA): a 64-bit kernel runs.
        assert ours.cr0 >> 31 & ours.efer >> 10 & 1
    # WC is encoding 1, valid is bit 11 (Intel SDM, "IA32_MTRR_PHYSBASEn and IA32_MTRR_PHYSMASKn").
    assert any(base == 0xFD000001 and mask >> 11 & 1 for base, mask in outside[1].mtrr_variable)


def test_reading_changes_nothing(guest: Guest) -> None:
    before = outside_registers(guest.machine)
    assert outside_registers(guest.machine)[0].mtrr == before[0].mtrr
    with stopped(guest.machine), stopped(guest.machine):
        assert guest.machine.state is GuestState.STOPPED
        save_devices(guest.machine)
        assert guest.machine.state is GuestState.STOPPED
    assert guest.shell("echo on").output == "on\n"


def test_ctrl_c_while_it_is_being_stopped_lets_it_run_on() -> None:
    sent: list[str] = []

    def execute(command: str) -> None:
        sent.append(command)
        if command == "stop":
            raise KeyboardInterrupt

    machine = SimpleNamespace(state=GuestState.READY, alive=True, qmp=SimpleNamespace(execute=execute))
    with pytest.raises(KeyboardInterrupt), stopped(cast(Machine, machine)):
        pass
    assert sent == ["stop", "cont"]


def test_the_shape_learned_is_that_of_a_template(guest: Guest) -> None:
    state = guest.machine.config.state
    if state is None:
        pytest.skip("this guest was booted and not restored")
    assert shape_of(state.read_bytes()) == cpu_shape(replace(guest.machine.config, state=None))


def test_registers_are_written_where_they_are_read(guest: Guest) -> None:
    shape = cpu_shape(guest.machine.config)
    state = save_devices(guest.machine)
    (cpu,) = read_cpus(state, shape, cpus=1)
    other = replace(cpu, pat_value=0x0007010600070106, mtrr_variable=((1, 2), *cpu.mtrr_variable[1:]))
    patched = with_registers(state, shape, [other], cpus=1)
    assert read_cpus(patched, shape, cpus=1) == (other,)
    assert len(patched) == len(state)
    words = [(cpu.pat_value, other.pat_value)]
    words += zip(cpu.mtrr_variable[0], other.mtrr_variable[0], strict=True)
    expected = sum(different(before.to_bytes(8), after.to_bytes(8)) for before, after in words)
    assert different(state, patched) == expected


def test_a_program_that_is_no_qemu() -> None:
    with pytest.raises(HostError, match=r"how /bin/true saves CPUs can't be learned"):
        learned_shape(installed("/bin/true"))
    with pytest.raises(HostError, match="is not on this host"):
        installed("/nowhere/qemu")


def test_what_somebody_elses_qemu_prints_moves_no_cursor(tmp_path: Path) -> None:
    program = tmp_path / "qemu"
    program.write_text("#!/bin/sh\nprintf 'before \\033[2J\\n'\n")
    program.chmod(0o755)
    with pytest.raises(HostError, match="saves CPUs can't be learned") as raised:
        learned_shape(installed(str(program)))
    assert raised.value.details == ("before \\x1b[2J",)


def test_how_the_installed_qemu_saves_a_cpu() -> None:
    shape = learned_shape(installed(QEMU))
    # Intel SDM: eleven fixed-range registers; QEMU 7.2 has eight pairs, which are sixteen words.
    assert {name: count for name, (_, count) in shape.offsets.items() if count > 1} == {
        "mtrr_fixed": 11,
        "mtrr_variable": 16,
    }
