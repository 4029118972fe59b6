import pytest

from pytest_memtype.errors import UsageError
from pytest_memtype.machine.hardware import Hardware, RamRange


def test_defaults() -> None:
    hardware = Hardware()
    assert (hardware.cpu, hardware.memory, hardware.cpus, hardware.cmdline) == ("qemu64", "256M", 1, "")
    assert hardware.memory_bytes == 0x1000_0000
    # TCG_PHYS_ADDR_BITS, QEMU 7.2, target/i386/cpu.h.
    assert hardware.physical_bits == 40


def test_equal_hardware_is_one_key() -> None:
    assert len({Hardware(cpus=2), Hardware(cpus=2), Hardware()}) == 2


@pytest.mark.parametrize(
    ("cpu", "bits"),
    [("qemu64,-mtrr", 40), ("max,phys-bits=36", 36), ("max,phys-bits=52,-mtrr", 52), ("max,phys-bits=0", 40)],
)
def test_physical_bits(cpu: str, bits: int) -> None:
    assert Hardware(cpu=cpu).physical_bits == bits


def test_where_ram_is() -> None:
    # QEMU 7.2, hw/i386/pc_q35.c, pc_q35_init: RAM is split when it reaches 0xb0000000, and 2 GiB stay below.
    largest = 0xB000_0000 - (1 << 20)
    assert Hardware(memory="2815M").ram == (RamRange(0, largest, 0),)
    for memory, above in (("2816M", 0x3000_0000), ("4G", 0x8000_0000)):
        hardware = Hardware(memory=memory)
        assert hardware.ram == (RamRange(0, 1 << 31, 0), RamRange(1 << 32, above, 1 << 31))
        assert hardware.low_memory_bytes == 1 << 31


def test_largest_memory() -> None:
    """2 GiB lie below 4 GiB, the rest above: 2 GiB less than the CPU has addresses."""
    hardware = Hardware(cpu="qemu64,phys-bits=36", memory="62G")
    assert hardware.ram[-1].start + hardware.ram[-1].size == 1 << 36
    with pytest.raises(UsageError, match="memory '63G' goes beyond the 36 bits of the CPU's physical"):
        Hardware(cpu="qemu64,phys-bits=36", memory="63G")


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("memory", "1T", "goes beyond the 40 bits"),
        ("memory", "64M", "use 96M or more"),
        ("memory", "0", "use 96M or more"),
        ("memory", "lots", "like '256M'"),
        ("memory", "-256M", "like '256M'"),
        ("memory", 256, "like '256M'"),
        ("memory", "262145K", "whole MiB"),
        ("most_memory", "256M", "is no more than memory '256M'"),
        ("most_memory", "lots", "like '256M'"),
        ("most_memory", 1 << 30, "like '256M'"),
        ("cpus", 0, "use 1 to 255"),
        ("cpus", 256, "use 1 to 255"),
        ("cpus", True, "use 1 to 255"),
        ("cpus", "2", "use 1 to 255"),
        ("cpu", "", "like 'qemu64'"),
        ("cpu", ",-mtrr", "like 'qemu64'"),
        ("cpu", "qemu64 -monitor stdio", "like 'qemu64'"),
        ("cpu", None, "like 'qemu64'"),
        *(
            ("cpu", f"max,phys-bits={bits},-mtrr", "use phys-bits of 32 to 52")
            for bits in ("31", "53", "99999999999999", "9" * 5000)
        ),
        ("cmdline", "nopat\nroot=", "on one line"),
        ("cmdline", "x" * 2000, "1792 at most"),
        ("firmware", "coreboot", "use seabios or ovmf"),
        ("display", "std", "use VGA, qxl-vga, virtio-vga or cirrus-vga"),
        ("smm", "on", "use True, False, or None"),
        ("devices", ["edu,id=e", "edu,id=e"], "has 'edu,id=e' twice"),
    ],
)
def test_refused(field: str, value: object, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        Hardware(**{field: value})  # type: ignore[arg-type]
    assert str(caught.value).startswith(f"hardware: {field} ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
