import pytest

from pytest_memtype.errors import UsageError
from pytest_memtype.machine.hardware import Hardware


def test_defaults() -> None:
    hardware = Hardware()
    assert (hardware.cpu, hardware.memory, hardware.cpus, hardware.cmdline) == ("qemu64", "256M", 1, "")
    assert hardware.memory_bytes == 0x1000_0000
    # TCG_PHYS_ADDR_BITS, QEMU 7.2, target/i386/cpu.h.
    assert hardware.physical_bits == 40


def test_equal_hardware_is_one_key() -> None:
    assert len({Hardware(cpus=2), Hardware(cpus=2), Hardware()}) == 2


@pytest.mark.parametrize(
    ("cpu", "bits"), [("qemu64,-mtrr", 40), ("max,phys-bits=36", 36), ("max,phys-bits=52,-mtrr", 52)]
)
def test_physical_bits(cpu: str, bits: int) -> None:
    assert Hardware(cpu=cpu).physical_bits == bits


def test_largest_memory_in_one_piece() -> None:
    # QEMU 7.2, hw/i386/pc_q35.c, pc_q35_init: RAM is split when it reaches 0xb0000000.
    assert Hardware(memory="2815M").memory_bytes == 0xB000_0000 - (1 << 20)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("memory", "2816M", "use less than 2816M"),
        ("memory", "4G", "use less than 2816M"),
        ("memory", "64M", "use 96M or more"),
        ("memory", "0", "use 96M or more"),
        ("memory", "lots", "like '256M'"),
        ("memory", "-256M", "like '256M'"),
        ("memory", 256, "like '256M'"),
        ("memory", "262145K", "whole MiB"),
        ("cpus", 0, "use 1 to 255"),
        ("cpus", 256, "use 1 to 255"),
        ("cpus", True, "use 1 to 255"),
        ("cpus", "2", "use 1 to 255"),
        ("cpu", "", "like 'qemu64'"),
        ("cpu", ",-mtrr", "like 'qemu64'"),
        ("cpu", "qemu64 -monitor stdio", "like 'qemu64'"),
        ("cpu", None, "like 'qemu64'"),
        ("cmdline", "nopat\nroot=", "on one line"),
        ("cmdline", "x" * 2000, "1792 at most"),
        ("firmware", "ovmf", "use seabios"),
        ("smm", "on", "use True, False, or None"),
    ],
)
def test_refused(field: str, value: object, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        Hardware(**{field: value})  # type: ignore[arg-type]
    assert str(caught.value).startswith(f"hardware: {field} ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
