"""What each firmware leaves in the MTRRs, against guests that it has started."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_memtype.host.progress import silent
from pytest_memtype.kernels.bundle import bundle
from pytest_memtype.kernels.firmware import flash
from pytest_memtype.machine.firmware_layout import firmware_layout
from pytest_memtype.machine.hardware import Hardware
from pytest_memtype.machine.layout import intended
from pytest_memtype.machine.layout_file import load_layout
from pytest_memtype.run.boot import GuestPlan, booted
from pytest_memtype.x86.memtype import MemType
from pytest_memtype.x86.mtrr import memory_type_at

UC, WB, WP = MemType.UC, MemType.WB, MemType.WP


@pytest.mark.parametrize(
    ("hardware", "expected"),
    [
        (Hardware(), {0xC0000: WP, 0xB0000000: WB, 0xC0000000: UC, 7 << 37: WB}),
        (
            Hardware(firmware="ovmf"),
            {0xC0000: UC, (1 << 31) - 1: WB, 1 << 31: UC, 7 << 37: UC},
        ),
        (Hardware(firmware="ovmf", memory="2304M"), {1 << 31: WB, 0xB0000000 - 1: WB, 0xB0000000: UC}),
        (Hardware(firmware="ovmf", memory="4G"), {(1 << 31) - 1: WB, 1 << 31: UC, 1 << 32: WB}),
        (Hardware(firmware="ovmf", cpu="qemu64,phys-bits=36"), {7 << 33: UC, (7 << 33) - 1: WB}),
    ],
)
def test_types(hardware: Hardware, expected: dict[int, MemType]) -> None:
    firmware = firmware_layout(hardware)
    state = intended(firmware, physical_bits=hardware.physical_bits, firmware=firmware)
    assert {address: memory_type_at(state, address) for address in expected} == expected


@pytest.mark.parametrize(
    "hardware",
    [
        Hardware(),
        Hardware(firmware="ovmf"),
        Hardware(firmware="ovmf", memory="2304M"),
        Hardware(firmware="ovmf", memory="2816M"),
    ],
    ids=lambda hardware: f"{hardware.firmware} {hardware.memory}",
)
def test_as_in_a_guest(hardware: Hardware, tmp_path: Path) -> None:
    """Booted, because templates of so much memory would push out all others."""
    made = bundle("debian:bookworm", progress=silent)
    plan = GuestPlan(
        made.image, made.initramfs, load_layout("firmware", []), hardware, flash=flash(hardware.firmware)
    )
    guest = booted(plan, logs=tmp_path / "logs")
    with guest.machine:
        assert guest.rewritten() == ()
