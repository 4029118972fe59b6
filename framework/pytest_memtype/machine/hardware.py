"""The guest's hardware: what a test may choose about the machine under its kernel."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pytest_memtype.errors import UsageError
from pytest_memtype.x86.hexadecimal import shown_in_hexadecimal
from pytest_memtype.x86.size import format_size, parse_size

MIB: Final = 1 << 20

#: Debian's 6.1 cloud kernel boots with 96 MiB and finds no room for itself with 64 MiB.
LEAST_MEMORY: Final = 96 * MIB

#: From this size on, q35 has all RAM but the first 2 GiB above 4 GiB (QEMU 7.2, hw/i386/pc_q35.c,
#: pc_q35_init()).
SPLIT_FROM: Final = 2816 * MIB
LOW_WHEN_SPLIT: Final = 2048 * MIB
HIGH_START: Final = 4096 * MIB

#: How many pieces of memory can be plugged in while the guest runs. QEMU leaves 1 GiB of addresses for each,
#: beside :attr:`Hardware.most_memory` (7.2 to 11.0, hw/i386/pc.c, pc_get_device_memory_range()).
MEMORY_SLOTS: Final = 4

#: Width of physical addresses when ``-cpu`` names none (QEMU 7.2, target/i386/cpu.h, TCG_PHYS_ADDR_BITS).
#: TCG refuses any other; KVM has the same because ``-cpu`` forbids it the host's (see qemu_command.py).
PHYSICAL_BITS: Final = 40

#: The widths that QEMU takes (7.2, target/i386/cpu.c, x86_cpu_realizefn()); 0 stands for its own.
_WIDTHS: Final = range(32, 53)

#: COMMAND_LINE_SIZE of x86 (Linux, arch/x86/include/asm/setup.h), less room for our own arguments.
CMDLINE_LIMIT: Final = 1792

#: More CPUs need an interrupt remapper (QEMU 7.2, hw/i386/x86.c), which the guest has not.
MOST_CPUS: Final = 255

FIRMWARES: Final = ("seabios", "ovmf")

#: Display devices with a VGA BIOS, as QEMU's ``-device`` names them.
DISPLAYS: Final = ("", "VGA", "qxl-vga", "virtio-vga", "cirrus-vga")

_PHYSICAL_BITS = re.compile(r"(?:^|,)phys-bits=(\d+)(?:,|$)")


@shown_in_hexadecimal("start", "size", "offset")
@dataclass(frozen=True)
class RamRange:
    """A part of the guest's RAM, and where it is kept.

    :param start: Guest-physical address of the first byte.
    :param size: Size in bytes.
    :param offset: Offset of the first byte in the file, or its address in the process's memory.
    """

    start: int
    size: int
    offset: int


@dataclass(frozen=True)
class Hardware:
    """The hardware that the guest's kernel finds.

    :param cpu: QEMU's ``-cpu`` argument, model and features: ``qemu64,-mtrr``.
    :param memory: RAM, as text with a unit (``256M``). It starts at address 0. With 2816 MiB or more, what
        the first 2 GiB don't hold starts at 4 GiB.
    :param cpus: Number of CPUs, 1 to 255.
    :param cmdline: Added to the end of the kernel's command line.
    :param firmware: ``seabios``, or ``ovmf`` for UEFI.
    :param smm: Whether the machine has system-management mode. None leaves it to QEMU, which has it unless
        KVM can't.
    :param display: A display that the firmware knows how to use, beside the test device: ``VGA``,
        ``qxl-vga``, ``virtio-vga`` or ``cirrus-vga``; empty for none. The test device may then lie elsewhere.
    :param devices: Further devices, each an argument of QEMU's ``-device``, such as ``"edu"`` or
        ``"pci-testdev,membar=64M"``. QEMU itself judges them when a guest is started.
    :param objects: What those refer to, each an argument of ``-object``, such as
        ``"memory-backend-memfd,id=m,size=64M"``.
    :param most_memory: RAM that the guest may come to have by :meth:`Guest.plug_memory`, with a unit: more
        than ``memory``. Empty for no more, as its firmware's tables and the place of large BARs depend on it.
    :raises UsageError: a value can't be had.
    """

    cpu: str = "qemu64"
    memory: str = "256M"
    cpus: int = 1
    cmdline: str = ""
    firmware: str = "seabios"
    smm: bool | None = None
    display: str = ""
    devices: Sequence[str] = ()
    objects: Sequence[str] = ()
    most_memory: str = ""

    def __post_init__(self) -> None:
        for name in ("devices", "objects"):
            # Two kinds of guest are the same if they are equal, and a list has no hash.
            object.__setattr__(self, name, _arguments(name, getattr(self, name)))
        _check_ids(self.devices)
        _check_cpu(self.cpu)
        _check_memory("memory", self.memory)
        if self.ram[-1].start + self.ram[-1].size > 1 << self.physical_bits:
            raise UsageError(
                f"hardware: memory {self.memory!r} goes beyond the {self.physical_bits} bits of the CPU's "
                "physical addresses; use less, or a cpu with more phys-bits"
            )
        self._check_most_memory()
        _check_cpus(self.cpus)
        _check_cmdline(self.cmdline)
        for name, text in (("memory", self.memory), ("firmware", self.firmware), ("display", self.display)):
            if not isinstance(text, str):
                raise UsageError(f"hardware: {name} {text!r} is not text")
        if self.firmware not in FIRMWARES:
            raise UsageError(
                f"hardware: firmware {self.firmware!r} is not known; use {' or '.join(FIRMWARES)}"
            )
        if self.smm is not None and not isinstance(self.smm, bool):
            raise UsageError(
                f"hardware: smm {self.smm!r} is no answer; use True, False, or None for QEMU's own"
            )

        if self.display not in DISPLAYS:
            raise UsageError(
                f"hardware: display {self.display!r} is not known; use {', '.join(DISPLAYS[1:-1])} or "
                f"{DISPLAYS[-1]}"
            )

    def _check_most_memory(self) -> None:
        if self.most_memory == "":
            return
        _check_memory("most_memory", self.most_memory)
        if self.most_memory_bytes <= self.memory_bytes:
            raise UsageError(
                f"hardware: most_memory {self.most_memory!r} is no more than memory {self.memory!r}; use "
                "more, or leave it out"
            )

    @property
    def memory_bytes(self) -> int:
        """The size of RAM in bytes."""
        return parse_size(self.memory)

    @property
    def most_memory_bytes(self) -> int:
        """The size in bytes that RAM may grow to."""
        return parse_size(self.most_memory or self.memory)

    @property
    def low_memory_bytes(self) -> int:
        """The number of bytes of RAM below 4 GiB."""
        return self.ram[0].size

    @property
    def ram(self) -> tuple[RamRange, ...]:
        """The ranges of RAM, by address; the offsets in QEMU's file or memory follow one another."""
        return ram_ranges(self.memory_bytes)

    @property
    def physical_bits(self) -> int:
        """Width of the CPU's physical addresses in bits (CPUID 80000008H EAX[7:0])."""
        match = _PHYSICAL_BITS.search(self.cpu)
        return int(match[1]) or PHYSICAL_BITS if match else PHYSICAL_BITS


def ram_ranges(size: int) -> tuple[RamRange, ...]:
    """The ranges in which q35 has ``size`` bytes of RAM, by address."""
    if size < SPLIT_FROM:
        return (RamRange(0, size, 0),)
    return (RamRange(0, LOW_WHEN_SPLIT, 0), RamRange(HIGH_START, size - LOW_WHEN_SPLIT, LOW_WHEN_SPLIT))


def _arguments(name: str, texts: object) -> tuple[str, ...]:
    """Arguments of QEMU's own, as a tuple."""
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        raise UsageError(f"hardware: {name} {texts!r} is no list; write [{texts!r}]")
    found = tuple(texts)
    for text in found:
        if not isinstance(text, str) or not re.fullmatch(r"[!-~]+", text) or len(text) > CMDLINE_LIMIT:
            raise UsageError(f"hardware: {name}: {text!r} is no argument of QEMU's; write it like 'edu,id=e'")
    return found


def _check_ids(devices: Sequence[str]) -> None:
    # Other devices of one id are refused by QEMU, but these would be one and the same.
    for device in devices:
        if ",id=" in device and devices.count(device) > 1:
            raise UsageError(f"hardware: devices has {device!r} twice; give each an id of its own")


def _check_cpu(cpu: object) -> None:
    # Printable ASCII: QEMU takes a NUL for the end of its argument, and the rest goes to people's terminals.
    if not isinstance(cpu, str) or re.fullmatch(r"[!-+\--~][!-~]*", cpu) is None:
        raise UsageError(f"hardware: cpu {cpu!r} is not a QEMU CPU; write it like 'qemu64' or 'qemu64,-mtrr'")
    match = _PHYSICAL_BITS.search(cpu)
    # Python refuses to read a number of thousands of digits.
    if match and (len(match[1]) > 2 or int(match[1]) not in (0, *_WIDTHS)):
        raise UsageError(f"hardware: cpu {cpu!r} has addresses no CPU has; use phys-bits of 32 to 52")
    if len(cpu) > CMDLINE_LIMIT:
        raise UsageError(f"hardware: cpu has {len(cpu)} characters; use {CMDLINE_LIMIT} at most")


def _check_memory(name: str, memory: object) -> None:
    if not isinstance(memory, str):
        raise UsageError(f"hardware: {name} {memory!r} is not text; write it with its unit, like '256M'")
    try:
        size = parse_size(memory)
    except ValueError:
        raise UsageError(
            f"hardware: {name} {memory!r} is not a size; write it with its unit, like '256M'"
        ) from None
    if size % MIB:
        raise UsageError(f"hardware: {name} {memory!r} is {size} bytes; use whole MiB, like '256M'")
    if size < LEAST_MEMORY:
        raise UsageError(
            f"hardware: {name} {memory!r} is too little for a kernel; use {format_size(LEAST_MEMORY)} or more"
        )


def _check_cpus(cpus: object) -> None:
    if not isinstance(cpus, int) or isinstance(cpus, bool) or not 1 <= cpus <= MOST_CPUS:
        raise UsageError(f"hardware: cpus {cpus!r} is not a number of CPUs; use 1 to {MOST_CPUS}")


def _check_cmdline(cmdline: object) -> None:
    if not isinstance(cmdline, str) or not cmdline.isprintable():
        raise UsageError(f"hardware: cmdline {cmdline!r} holds a control character; write it on one line")
    if len(cmdline.encode()) > CMDLINE_LIMIT:
        raise UsageError(
            f"hardware: cmdline has {len(cmdline.encode())} bytes, more than the kernel reads; "
            f"use {CMDLINE_LIMIT} at most"
        )
